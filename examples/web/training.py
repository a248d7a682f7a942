"""A model small enough to be trained in a web request: linear regression by gradient descent, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class LinearModel:
    """y = weights * x + bias."""

    weights: list[float]
    bias: float = 0.0

    def predict(self, x: Sequence[float]) -> float:
        return self.bias + sum(weight * value for weight, value in zip(self.weights, x, strict=True))

    def train_epoch(self, xs: Sequence[Sequence[float]], ys: Sequence[float]) -> float:
        """One step of gradient descent over all samples.

        Returns: the mean squared error after it.
        """
        # The longest step that never overshoots: the curvature is at most the mean of |x|^2 + 1.
        rate = 1 / (1 + sum(value * value for x in xs for value in x) / len(xs))
        errors = self.errors(xs, ys)
        for index in range(len(self.weights)):
            self.weights[index] -= rate * sum(error * x[index] for error, x in zip(errors, xs, strict=True)) / len(xs)
        self.bias -= rate * sum(errors) / len(xs)
        return sum(error * error for error in self.errors(xs, ys)) / len(xs)

    def errors(self, xs: Sequence[Sequence[float]], ys: Sequence[float]) -> list[float]:
        return [self.predict(x) - y for x, y in zip(xs, ys, strict=True)]
