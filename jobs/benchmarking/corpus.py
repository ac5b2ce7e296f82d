"""Text to compress that is on every machine: Python's language reference and the installed packages' descriptions.

Worked arithmetic problems stand in for few-shot demonstrations. Everything is drawn with a seed; what is installed
differs from machine to machine, so the report carries a digest of the prompts.
"""

from __future__ import annotations

import importlib.metadata
import random
import re
from collections.abc import Iterator
from functools import lru_cache

_PARAGRAPH = re.compile(r"\n\s*\n")
_SHORTEST = 120
_WORDY = 0.7
_NAMES = ("Amara", "Björn", "Chen", "Dolores", "Emeka", "Farida", "Goran", "Hana", "Ivo", "Jun", "Keiko", "Luca")
_THINGS = (
    "muffins",
    "tickets",
    "marbles",
    "notebooks",
    "apples",
    "stamps",
    "bottles",
    "lanterns",
    "seeds",
    "postcards",
)
_STEPS = (
    ("buys {n} boxes with {m} {thing} in each", "{n} boxes of {m} are {n} * {m} = {k} {thing}", 1),
    ("finds {n} {thing} in one cupboard and {m} in another", "the cupboards hold {n} + {m} = {k} {thing}", 1),
    ("gives {n} friends {m} {thing} each", "the friends get {n} * {m} = {k} {thing}", -1),
    ("loses {n} {thing} on Monday and {m} on Thursday", "lost are {n} + {m} = {k} {thing}", -1),
)


@lru_cache(maxsize=1)
def paragraphs() -> tuple[str, ...]:
    """Paragraphs of prose, in a fixed order."""
    texts = [*_language_reference(), *_descriptions()]
    pieces = (piece.strip() for text in texts for piece in _PARAGRAPH.split(text))
    return tuple(dict.fromkeys(piece for piece in pieces if _is_prose(piece)))


def _language_reference() -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))


def _descriptions() -> Iterator[str]:
    found = {dist.name.lower(): dist.metadata for dist in importlib.metadata.distributions() if dist.name}
    for name in sorted(found):
        payload = found[name].get_payload()  # type: ignore[attr-defined]
        yield payload if isinstance(payload, str) else ""


def _is_prose(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return len(text) >= _SHORTEST and letters / len(text) > _WORDY


def document(characters: int, dice: random.Random) -> str:
    """A text of about `characters` characters, made of whole paragraphs but for the last."""
    pieces: list[str] = []
    length = 0
    while length < characters:
        pieces.append(dice.choice(paragraphs()))
        length += len(pieces[-1]) + 2
    text = "\n\n".join(pieces)[:characters]
    return text.rsplit(maxsplit=1)[0] if " " in text else text


def problem(characters: int, dice: random.Random) -> str:
    """A worked problem of about `characters` characters: question, steps, answer."""
    name, thing = dice.choice(_NAMES), dice.choice(_THINGS)
    total = dice.randint(400, 900)
    story, steps = [f"{name} has {total} {thing}."], [f"At first there are {total} {thing}."]
    while len(" ".join(story + steps)) < characters - 120:
        told, solved, sign = dice.choice(_STEPS)
        n, m = dice.randint(2, 30), dice.randint(2, 30)
        k = n * m if "*" in solved else n + m
        values = {"n": n, "m": m, "k": k, "thing": thing}
        story.append(f"Then {name} {told.format(**values)}.")
        steps.append(f"Here {solved.format(**values)}, so {total} {'+' if sign > 0 else '-'} {k} = {total + sign * k}.")
        total += sign * k
    asked = f"How many {thing} does {name} have in the end?"
    return f"Question: {' '.join(story)} {asked}\nLet's think step by step\n{' '.join(steps)}\nThe answer is {total}."


def question(dice: random.Random) -> str:
    """A problem without its solution."""
    return problem(400, dice).split("\nLet's think")[0]
