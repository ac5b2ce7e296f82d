"""Words that the rules of text know, by what they do and by language, as parts of patterns: `phrases.toml`."""

import re
import tomllib
from functools import cache
from importlib.resources import files

import regex

_ENDLESS = ("ar", "ja", "ko", "zh")
"""Languages in which no space need follow a word: an ending or the next word does."""


def either(*patterns: str, flags: int = 0) -> regex.Pattern[str]:
    """What one of the patterns matches, the first one of several."""
    return regex.compile("|".join(patterns), flags)


def phrases(role: str, end: str = r"\b") -> str:
    """What matches any phrase of a `role`; behind those of languages with spaces stands the `end`."""
    spaced, joined = list[str](), list[str]()
    for language, listed in _book()[role].items():
        (joined if language in _ENDLESS else spaced).extend(re.split(r",\s+", listed))
    return "|".join([f"(?:{'|'.join(spaced)}){end}", *joined])


@cache
def _book() -> dict[str, dict[str, str]]:
    return tomllib.loads(files("lingua.text").joinpath("phrases.toml").read_text("utf-8"))
