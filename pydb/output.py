"""What the command shows: nothing that somebody else chose reaches the terminal as more than text."""

from __future__ import annotations

from typing import Any, TextIO

__all__ = ["Screen", "escape", "raw"]


def escape(text: str, encoding: str = "utf-8", keep: str = "\n") -> str:
    r"""Write every character that is not printable, or not in the encoding, as JSON would: \u202e.

    So control characters, escape sequences, bidirectional and zero-width characters are seen and not obeyed. In JSON
    the result means the same. keep: signs that stay as they are.
    """
    if text.isascii() and text.replace(keep, "").isprintable():
        return text
    return "".join(sign if sign in keep or _shows(sign, encoding) else _escaped(sign) for sign in text)


def _shows(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return sign.isprintable()


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    return "".join("\\u" + units[place : place + 4] for place in range(0, len(units), 4))


class Screen:
    """A text stream on which everything is escaped; otherwise the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(escape(text, self.stream.encoding or "ascii"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def raw(stream: Any) -> TextIO:
    """The stream below a Screen, for what draws on a terminal itself."""
    return stream.stream if isinstance(stream, Screen) else stream
