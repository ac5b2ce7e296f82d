"""JSON whose numbers keep their value: what Python's int and float do not hold exactly stays as it was written.

A float holds a decimal where its shortest spelling has the same value: 0.1, but not 0.10000000000000001. ``-0`` is the
float -0.0, for an int has no such sign. NaN and Infinity, where they are written, are read as Python reads them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

_SURE = 16
"""Characters of a decimal without exponent that float64 surely holds: 15 digits and a point."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of JSON that neither int nor float holds, as it was written."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + len(self.text)


def loads(text: str) -> Any:
    """The value of a JSON text. ValueError and RecursionError as `json.loads` raises them."""
    return _DECODER.decode(text)


def dumps(
    value: Any,
    ensure_ascii: bool = False,
    default: Callable[[Any], Any] | None = None,
    separators: tuple[str, str] | None = None,
) -> str:
    """The JSON text of a value, each `Number` as it was written. The rest is as in `json.dumps`."""
    mark = ""

    def other(one: Any) -> Any:
        nonlocal mark
        if isinstance(one, Number):  # as a string that no value can hold, whose quotes are then taken away
            mark = mark or secrets.token_hex(16)
            return mark + one.text
        if default is None:
            raise TypeError(f"Object of type {type(one).__name__} is not JSON serializable")
        return default(one)

    text = json.dumps(value, ensure_ascii=ensure_ascii, default=other, separators=separators)
    if not mark:
        return text
    before, *behind = text.split(f'"{mark}')
    return before + "".join(piece.replace('"', "", 1) for piece in behind)


def _fraction(text: str) -> float | Number:
    value = float(text)
    if len(text) <= _SURE and "e" not in text and "E" not in text:
        return value
    try:
        same = Decimal(text) == Decimal(repr(value))
    except InvalidOperation:  # an exponent beyond Decimal's
        same = False
    return value if same else Number(text)


def _integer(text: str) -> int | float | Number:
    if text == "-0":
        return -0.0
    try:
        return int(text)
    except ValueError:  # more digits than Python turns into an int and back
        return Number(text)


_DECODER = json.JSONDecoder(parse_float=_fraction, parse_int=_integer)
