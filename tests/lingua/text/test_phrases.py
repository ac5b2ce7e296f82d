"""The words that rules of text know."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import regex

import lingua
from lingua.text.phrases import phrases

HOUSE = Path(lingua.__file__).parent
BOOK = tomllib.loads(Path(HOUSE, "text/phrases.toml").read_text("utf-8"))
PAIRS = [(role, language) for role, listed in BOOK.items() for language in listed]


@pytest.mark.parametrize(("role", "language"), PAIRS, ids="-".join)
def test_every_phrase_is_a_pattern_of_its_own_and_stands_once(role: str, language: str) -> None:
    listed = re.split(r",\s+", BOOK[role][language])
    assert len(set(listed)) == len(listed)
    assert all(one == one.strip() and regex.compile(one).match("") is None for one in listed)


def test_every_role_is_asked_for() -> None:
    code = "".join(path.read_text("utf-8") for path in HOUSE.rglob("*.py"))
    assert set(re.findall(r"phrases\([\"'](\w+)", code)) == set(BOOK)


@pytest.mark.parametrize(
    ("role", "text", "found"),
    [
        ("follows", "but it rained", "but"),
        ("follows", "butter is sold", None),
        ("follows", "但是今天", "但"),
        ("refers", "그는 왔다", "그는"),
        ("restricts", "couldn't be", "couldn't"),
        ("restricts", "nothing", None),
    ],
)
def test_a_phrase_ends_with_a_word_where_words_are_spaced(role: str, text: str, found: str | None) -> None:
    matched = regex.match(phrases(role), text)
    assert (matched and matched.group()) == found


def test_what_may_follow_a_phrase_is_for_who_asks() -> None:
    assert regex.match(f"(?:{phrases('answers', '')})\\d:", "A1: yes")
    assert not regex.match(f"(?:{phrases('answers')})\\d:", "A1: yes")
