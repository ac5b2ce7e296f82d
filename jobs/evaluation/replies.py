"""What a reply says: its final number, its final answer, its words, as the benchmarks of the field take them.

Follows the scripts of GSM8K (what stands after ``####`` or "the answer is", else the last number), BIG-Bench Hard (what
stands after "the answer is") and SQuAD (lower case, no punctuation, no English articles), and extends the last to other
scripts: punctuation of all kinds goes, and where a script writes no spaces, each character is a word.
"""

from __future__ import annotations

import string
import unicodedata
from decimal import Decimal

import regex

from lingua.words import terms

_MARK = regex.compile(r"####|\banswer\s*(?:is|:)\s*:?|答案(?:是|为)?[:：]?", regex.IGNORECASE)
_NUMBER = regex.compile(r"(?<![\w.)])[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<![\w.)])[-−]?\.\d+")
_CHOICE = regex.compile(r"\(([A-Z])\)")
_LETTER = regex.compile(r"([A-Z])\b")
_ARTICLES = regex.compile(r"\b(a|an|the)\b")
_ASCII_MARKS = frozenset(string.punctuation)
_AROUND = " \t.\"'*`“”$"


def after_mark(reply: str) -> str | None:
    """What stands after the last announcement of an answer; None without one."""
    end = max((found.end() for found in _MARK.finditer(reply)), default=None)
    return None if end is None else reply[end:]


def final_number(reply: str) -> Decimal | None:
    """The first number after the last announcement, else the last number; None without one."""
    reply = unicodedata.normalize("NFKC", reply)
    announced = after_mark(reply)
    if announced is not None and (found := _NUMBER.search(announced)):
        return _decimal(found.group())
    numbers = _NUMBER.findall(reply)
    return _decimal(numbers[-1]) if numbers else None


def final_answer(reply: str, right: str) -> str:
    """The reply's answer in the form of the right one: a choice such as ``(B)``, or the words of a line."""
    announced = after_mark(reply)
    lines = (reply if announced is None else announced).strip().splitlines() or [""]
    if not _CHOICE.fullmatch(right):
        return lines[0] if announced is not None else lines[-1]
    choices = _CHOICE.findall("\n".join(lines))
    if choices:
        return f"({choices[0 if announced is not None else -1]})"
    letter = _LETTER.match(lines[0].strip(_AROUND)) if announced is not None else None
    return f"({letter[1]})" if letter else lines[0]


def plain(answer: str) -> str:
    """An answer without what does not matter: case, white space, quotes, emphasis and a full stop around it."""
    return " ".join(answer.strip(_AROUND).casefold().split())


def normalized(text: str) -> str:
    """SQuAD's normal form, for every script."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = "".join(sign for sign in text if not _is_mark(sign))
    return " ".join(_ARTICLES.sub(" ", text).split())


def words(text: str) -> list[str]:
    """The words of the normal form; a character each in scripts without spaces."""
    return terms(normalized(text))


def _is_mark(sign: str) -> bool:
    return sign in _ASCII_MARKS or unicodedata.category(sign).startswith("P")


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace("−", "-").replace("$", "").replace(",", ""))
