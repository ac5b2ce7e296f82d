"""What is wrong with a setting, in words: its name, its value, what is allowed, and what was likely meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError

_BOUNDS = {"greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}"}
_BOUNDS |= {"less_than": "below {lt:g}", "less_than_equal": "at most {le:g}"}
LONGEST = 200
"""Characters of a wrong value that are shown."""
_SHARE = "it is a share: 0.5 keeps half, 1 all"
_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "string": "text"}
_KINDS |= {"tuple": "a list", "list": "a list", "dict": "an object", "model": "an object"}
_KINDS |= {"path": "the path of one file or directory"}
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>`]*)")
_WITH_CONTAINERS = ("abfs", "abfss", "az", "adl", "wasb", "wasbs")
_OF_STORES = ("s3", "s3a", "s3n", "gs", "gcs", "hf", "memory", *_WITH_CONTAINERS)
_SCHEMES = "|".join((*_OF_STORES, "https?", "s?ftp", "ftps", "ray", "redis", "ssh", "webdavs?", "hdfs", "smb"))
_MISTYPED = re.compile(rf"(?i:\b(?:{_SCHEMES}):)(?:/?(?!/)|/{{3,}})(?=[^\s'\"<>`]*[@?#])([^\s'\"<>`]*)")
"""A URL with more or fewer than two slashes behind its scheme, which is then the name of a folder: with its token."""
PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def explain(error: ValidationError, known: Collection[str] = ()) -> str:
    """Each fault of a pydantic error: the setting, its value and what is wanted; `known` are names that exist."""
    faults = error.errors(include_url=False)
    # a list whose items are wrong is not empty, and what a misspelt method reads is not unknown
    within = {("too_short", *fault["loc"][:1]) for fault in faults if len(fault["loc"]) > 1}
    follow = within | {("extra_forbidden", name) for name in known}
    told = [fault for fault in faults if (fault["type"], *fault["loc"]) not in follow]
    return "; ".join(_fault(fault, known) for fault in told)


def meant(name: str, known: Collection[str]) -> str:
    """`` did you mean a or b?`` for the known names that look like this one, or nothing."""
    lower = {one.lower(): one for one in known}
    close = [one for one in lower if one.startswith(name.lower())] if len(name) > 1 else []
    close = close or difflib.get_close_matches(name.lower(), lower)
    return f" did you mean {' or '.join(lower[one] for one in close[:3])}?" if close else ""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, without the advice that follows."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def public(text: str) -> str:
    """`text` with no more of each URL in it than scheme, host and path: users, queries and fragments are left out.

    In an object store `?` and `#` may stand in a name, so only `?name=` begins a query there; a container before `@`
    (`abfs://container@account…`) is part of the path.
    """
    return _MISTYPED.sub(_mistyped, _URL.sub(lambda found: public_url(found[0]), text))


def public_url(url: str) -> str:
    """The same of a text that is a URL as a whole, whatever stands in it. Paths on a disk are names throughout."""
    if found := _MISTYPED.match(url):
        return _mistyped(found)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme in ("file", "local"):
        return url
    return scheme + separator + _public(scheme.lower(), rest)


def _mistyped(found: re.Match[str]) -> str:
    scheme = found[0].partition(":")[0].lower()
    return found[0].removesuffix(found[1]) + _public(scheme, found[1])


def _public(scheme: str, rest: str) -> str:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    odd_port = ":" in authority and not re.fullmatch(r"[^:]*:\d*|\[[^\]]*\](:\d*)?", authority)
    if "@" in (rest if odd_port else authority):  # a password may hold what ends a host
        user, _, rest = rest.rpartition("@") if odd_port else (*authority.rpartition("@")[:2], rest[len(authority) :])
        host = "" if odd_port else authority.rpartition("@")[2]
        container = scheme in _WITH_CONTAINERS and re.fullmatch(r"[\w$-]{1,63}", user)
        rest = f"{user}@{host}{rest}" if container else host + rest
    end = re.search(r"\?[^/?=]+=" if scheme in _OF_STORES else r"[?#]", rest)
    return rest[: end.start()] if end else rest


def in_words(error: BaseException) -> str:
    """What an exception says in one line of at most 300 characters, with its name where that says more."""
    said = public(" ".join(str(error).split()))[:300]
    plain = type(error).__name__ == "error" or (
        isinstance(error, (OSError, ValueError, RuntimeError)) and len(said) > 12 and "UnicodeDecode" not in repr(error)
    )
    return said if plain else f"{type(error).__name__}: {said}" if said else type(error).__name__


def _fault(fault: Any, known: Collection[str]) -> str:
    name = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "extra_forbidden":
        hint = meant(name, known)
        return f"unknown setting '{name}'" + (f";{hint}" if hint else "")
    wanted = _wanted(fault)
    shown = public(repr(fault["input"]))
    return f"{name} = {shown if len(shown) <= LONGEST else shown[:LONGEST] + '…'}: {wanted}" if name else wanted


def _wanted(fault: Any) -> str:
    kind, limits, value = str(fault["type"]), fault.get("ctx", {}), fault["input"]
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**limits)}{_as_share(value, limits)}"
    if kind.endswith("too_short"):
        return f"must hold at least {limits['min_length']}" + " character" * kind.startswith("string")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", limits["expected"])
        hint = meant(str(value), choices)
        return f"must be {either(choices)}" + (f";{hint}" if hint else "")
    if (wanted := _KINDS.get(kind.split("_")[0])) and kind.endswith(("_parsing", "_type", "_from_float")):
        return f"must be {wanted}{_as_number(value) if kind.startswith('float') else ''}"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def either(names: Sequence[str], word: str = "or") -> str:
    """The names as a list in a sentence: ``a, b or c``."""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _as_share(value: object, limits: dict[str, Any]) -> str:
    """A share that was written as a number of hundredths."""
    try:
        number = float(str(value))
    except ValueError:
        return ""
    if limits.get("le") != 1 or not number > 1:  # NaN is not
        return ""
    if number > 100:
        return f"; {_SHARE}; for a number of tokens, give target_token"
    one_in = f"or one in {number:g}, which is {1 / number:.2g}?"
    if number != int(number):
        return f"; {_SHARE}; did you mean {number / 100:g} ({number:g}%), {one_in}"
    if number < 10:
        return f"; {_SHARE}; did you mean {number / 10:g}, {one_in}"
    return f"; did you mean {number / 100:g}?"


def _as_number(value: object) -> str:
    """A share that was written with a percent sign, or with a comma."""
    if percent := PERCENT.fullmatch(str(value)):
        return f"; did you mean {float(percent[1]) / 100:g}?"
    swapped = str(value).replace(",", ".", 1)
    return f"; did you mean {swapped}?" if re.fullmatch(r"\d*\.\d+", swapped) and swapped != value else ""
