"""Values on their way to the database: numbers of other libraries become Python's, and what is none is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument

__all__ = ["number", "to_json"]


def _plain(value: Any) -> object:
    """A number of numpy, torch or another library as Python has it; a mapping as a dict.

    Raises: TypeError for anything else, ValueError for a Decimal that signals.
    """
    if isinstance(value, Mapping):
        return dict(value)
    # An array of one number is not a number: it has a dimension.
    if getattr(value, "ndim", 0) == 0:
        if callable(getattr(value, "item", None)):
            value = value.item()
        if isinstance(value, (bool, int, float)):
            return value
        # Not __int__, which addresses and UUIDs have too.
        if hasattr(type(value), "__index__"):
            return int(value)
        if hasattr(type(value), "__float__"):
            return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_dump = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def to_json(value: object, what: str) -> str:
    """JSON of a value. what: its name in an error, such as metrics.

    Raises: InvalidArgument, which names the first value that JSON does not have.
    """
    try:
        return _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        path, wrong = _first_wrong(value, ())
        raise _refused(_name(what, path), wrong, error) from error


def number(value: Any, what: str) -> Any:
    """A number as Python has it; None and text as they are.

    Raises: InvalidArgument for what is not a finite number.
    """
    if value is None or isinstance(value, str):
        return value
    try:
        plain = value if type(value) in (int, float) else _plain(value)
        if isinstance(plain, (int, float)) and math.isfinite(plain):
            return plain
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused(what, value, error) from error
    raise _refused(what, value, None)


def _first_wrong(value: object, path: tuple[object, ...]) -> tuple[tuple[object, ...], object]:
    """Where the first value is that cannot be dumped, and it."""
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    for key, part in parts if len(path) < 64 else ():  # deeper than the database takes, or a circle
        try:
            _dump(part)
        except (TypeError, ValueError, RecursionError):
            return _first_wrong(part, (*path, key))
    return path, value


def _name(what: str, path: tuple[object, ...]) -> str:
    item = ""
    if what == "batch" and path:
        item = f" of item {path[0]}"
        what, path = (str(path[1]), path[2:]) if len(path) > 1 else ("state", ())
    if path and what == "metrics":
        what = "metric"
    return what + (f" {'.'.join(map(str, path))!r}" if path else "") + item


def _refused(name: str, value: object, error: Exception | None) -> InvalidArgument:
    try:
        plain: object = _plain(value)
    except (TypeError, ValueError):
        plain = None
    if isinstance(value, (int, float)) or isinstance(plain, (int, float)):
        return InvalidArgument(f"{name} is not a finite number", hint="Leave it out, or save None in metadata.")
    why = f" {error}." if isinstance(error, (ValueError, RecursionError)) else ""
    return InvalidArgument(
        f"{name} is not JSON",
        detail=f"It is of the type {type(value).__name__}.{why}",
        hint="Pass numbers, text, booleans, None, lists and dicts with text as keys; convert anything else first, "
        "for example with str().",
    )
