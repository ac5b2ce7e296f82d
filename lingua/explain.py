"""What is wrong with a setting, in words: its name, its value, what is allowed, and what was likely meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

_BOUNDS = {"greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}"}
_BOUNDS |= {"less_than": "below {lt:g}", "less_than_equal": "at most {le:g}"}
_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "string": "text"}
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def explain(error: ValidationError, known: Collection[str] = ()) -> str:
    """Each fault of a pydantic error: the setting, its value and what is wanted; `known` are names that exist."""
    return "; ".join(_fault(fault, known) for fault in error.errors(include_url=False))


def meant(name: str, known: Collection[str], limit: int = 3) -> str:
    """`` did you mean a or b?`` for the known names that look like this one, or nothing."""
    lower = {one.lower(): one for one in known}
    close = [one for one in lower if one.startswith(name.lower())] if len(name) > 1 else []
    close = close or difflib.get_close_matches(name.lower(), lower, limit)
    return f" did you mean {' or '.join(lower[one] for one in close[:limit])}?" if close else ""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, without the advice that follows."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def in_words(error: BaseException) -> str:
    """What an exception says in one line of at most 300 characters, with its name where that says more."""
    said = " ".join(str(error).split())[:300]
    plain = isinstance(error, (OSError, ValueError, RuntimeError)) and len(said) > 12
    return said if plain else f"{type(error).__name__}: {said}" if said else type(error).__name__


def _fault(fault: Any, known: Collection[str]) -> str:
    name = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        hint = meant(name, known)
        return f"unknown setting '{name}'" + (f";{hint}" if hint else "")
    wanted = _wanted(fault)
    return f"{name} = {fault['input']!r}: {wanted}" if name else wanted


def _wanted(fault: Any) -> str:
    kind, limits, value = str(fault["type"]), fault.get("ctx", {}), fault["input"]
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**limits)}{_as_share(value, limits)}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", limits["expected"])
        hint = meant(str(value), choices)
        return f"must be {_either(choices)}" + (f";{hint}" if hint else "")
    if (wanted := _KINDS.get(kind.split("_")[0])) and kind.endswith(("_parsing", "_type", "_from_float")):
        return f"must be {wanted}{_as_number(value)}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _either(choices: list[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _as_share(value: object, limits: dict[str, Any]) -> str:
    """A share that was written as a number of hundredths."""
    try:
        number = float(str(value))
    except ValueError:
        return ""
    return f"; did you mean {number / 100:g}?" if limits.get("le") == 1 and 1 < number <= 100 else ""


def _as_number(value: object) -> str:
    """A share that was written with a percent sign, or with a comma."""
    if percent := _PERCENT.fullmatch(str(value)):
        return f"; did you mean {float(percent[1]) / 100:g}?"
    swapped = str(value).replace(",", ".", 1)
    return f"; did you mean {swapped}?" if re.fullmatch(r"\d*\.\d+", swapped) and swapped != value else ""
