"""JSON whose numbers keep their value: what Python's int and float do not hold exactly stays as it was written.

A float holds a decimal of up to 17 digits that it spells alike when it is asked for as many: 0.1, and
0.10000000000000001 too, which is how many programs write that float. Of more digits it holds what is its own value,
digit by digit. ``-0`` is the float -0.0, for an int has no such sign. NaN and Infinity, where they are written, are
read as Python reads them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any

_SURE = 16
"""Characters of a decimal without exponent that float64 surely holds: 15 digits and a point."""
_MOST_DIGITS = 17
"""Digits that tell every float64 from all others."""
MAX_VALUES = 4_000_000
"""Lists, objects and what else commas part in a JSON text from outside: each takes up to a hundred bytes of memory."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ALL_DIGITS = Context(prec=100_000, Emax=10**15, Emin=-(10**15))


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


def has_too_many(text: bytes) -> bool:
    """Whether a JSON text holds more than `MAX_VALUES` values, before any of them takes memory."""
    if len(text) <= MAX_VALUES or _parted(text, 0, len(text)) <= MAX_VALUES:
        return False
    found = at = 0
    for string in _STRING.finditer(text):
        found += _parted(text, at, string.start())
        at = string.end()
        if found > MAX_VALUES:
            return True
    return found + _parted(text, at, len(text)) > MAX_VALUES


def _parted(text: bytes, start: int, end: int) -> int:
    return sum(text.count(sign, start, end) for sign in (b",", b"[", b"{"))


def loads_first(text: str) -> tuple[Any, int]:
    """The value at the beginning of a text, and where it ends. ValueError and RecursionError as above."""
    return _DECODER.raw_decode(text)


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
    exact = (len(text) <= _SURE and "e" not in text.lower()) or _holds(value, text)
    return value if exact else Number(text)


def _holds(value: float, text: str) -> bool:
    try:
        written = Decimal(text)
        digits = len(written.normalize(_ALL_DIGITS).as_tuple().digits)
        return Decimal(f"{value:.{digits - 1}e}" if digits <= _MOST_DIGITS else value) == written
    except InvalidOperation:  # an exponent beyond Decimal's, or infinity
        return False


def _integer(text: str) -> int | float | Number:
    if text == "-0":
        return -0.0
    try:
        return int(text)
    except ValueError:  # more digits than Python turns into an int and back
        return Number(text)


_DECODER = json.JSONDecoder(parse_float=_fraction, parse_int=_integer)
