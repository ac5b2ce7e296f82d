"""The prompts that are measured: mixes of a settable size, made of text that is on every machine.

short    documents of about 170 tokens                  fewshot   eight worked problems and a question, about 2,700
bank     the same demonstrations in every row, 2,700    long      documents from 5,000 to 30,000 tokens
mixed    all of these, shuffled

Documents are put together from Python's language reference and the installed packages' descriptions; worked arithmetic
problems stand in for few-shot demonstrations. Everything is drawn with a seed, but what is installed differs from
machine to machine, so the report carries a digest of the prompts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pydoc_data.topics import topics

from lingua.errors import ConfigError
from lingua.prompt import Prompt

INSTRUCTION = "Answer the last question. The examples before it show how."
DEMONSTRATIONS = 8
LONG = (5_000, 30_000)
_SAMPLE = 20_000
_PARAGRAPH = re.compile(r"\n\s*\n")
_SHORTEST, _WORDY = 120, 0.7
"""A paragraph of prose has so many characters, and such a share of letters and spaces, at the least."""
_NAMES = ("Amara", "Björn", "Chen", "Dolores", "Emeka", "Farida", "Goran", "Hana", "Ivo", "Jun", "Keiko", "Luca")
_ITEMS = ("muffins", "tickets", "marbles", "notebooks", "apples", "stamps", "bottles", "lanterns", "seeds", "postcards")
_STEPS = (
    ("buys {n} boxes with {m} {thing} in each", "{n} boxes of {m} are {n} * {m} = {k} {thing}", 1),
    ("finds {n} {thing} in one cupboard and {m} in another", "the cupboards hold {n} + {m} = {k} {thing}", 1),
    ("gives {n} friends {m} {thing} each", "the friends get {n} * {m} = {k} {thing}", -1),
    ("loses {n} {thing} on Monday and {m} on Thursday", "lost are {n} + {m} = {k} {thing}", -1),
)


@dataclass(frozen=True, slots=True)
class Mix:
    """Prompts under a name."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def digest(self) -> str:
        """Equal for equal prompts: says whether two reports measured the same texts."""
        return hashlib.sha256("\0".join(prompt.text for prompt in self.prompts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class MixSize:
    """A mix by name and, if other than its own, the tokens of each prompt."""

    name: str
    tokens: int | None = None

    @classmethod
    def parse(cls, text: str) -> MixSize:
        """``NAME`` or ``NAME:TOKENS``. Raises ConfigError."""
        name, _, tokens = text.partition(":")
        if name not in MIXES:
            raise ConfigError(f"--mix {text!r}: no such mix; there are {', '.join(MIXES)}")
        if tokens and not (tokens.isdecimal() and int(tokens) >= 20):
            raise ConfigError(f"--mix {text!r}: the size must be a number of tokens, at least 20")
        return cls(name, int(tokens) if tokens else None)

    def __str__(self) -> str:
        return f"{self.name}:{self.tokens}" if self.tokens else self.name


@dataclass(frozen=True, slots=True)
class Recipe:
    """How prompts are made: `rows` of them, `tokens` each (None: the mix's own size)."""

    rows: int
    tokens: int | None
    dice: random.Random
    characters_per_token: dict[str, float]

    def characters(self, kind: str, default: int) -> int:
        return int((self.tokens or default) * self.characters_per_token[kind])


def make_mix(size: MixSize, rows: int, seed: int, count: Callable[[str], int]) -> Mix:
    """The mix of `size`; `count` gives the tokens of a text."""
    dice = random.Random(f"{size.name} {seed}")
    samples = {"prose": document(_SAMPLE, random.Random(0)), "problems": problem(_SAMPLE, random.Random(0))}
    ratios = {kind: len(text) / max(1, count(text)) for kind, text in samples.items()}
    return Mix(size.name, tuple(MIXES[size.name](Recipe(rows, size.tokens, dice, ratios))))


# ---- the mixes


def _short(recipe: Recipe) -> list[Prompt]:
    size = recipe.characters("prose", 170)
    return [Prompt(context=[document(size, recipe.dice)]) for _ in range(recipe.rows)]


def _fewshot(recipe: Recipe) -> list[Prompt]:
    return [_with_demonstrations(_demonstrations(recipe), recipe) for _ in range(recipe.rows)]


def _bank(recipe: Recipe) -> list[Prompt]:
    shared = _demonstrations(recipe)
    return [_with_demonstrations(shared, recipe) for _ in range(recipe.rows)]


def _demonstrations(recipe: Recipe) -> list[str]:
    room = recipe.characters("problems", 2_700) - len(INSTRUCTION) - 300
    number = max(2, min(DEMONSTRATIONS, room // 400))
    return [problem(max(200, room // number), recipe.dice) for _ in range(number)]


def _with_demonstrations(shared: Sequence[str], recipe: Recipe) -> Prompt:
    return Prompt(INSTRUCTION, shared, problem(400, recipe.dice).split("\nLet's think")[0])


def _long(recipe: Recipe) -> list[Prompt]:
    ratio = recipe.characters_per_token["prose"]
    low, high = LONG if recipe.tokens is None else (recipe.tokens, recipe.tokens)
    steps = [low * (high / low) ** (row / max(1, recipe.rows - 1)) for row in range(recipe.rows)]
    recipe.dice.shuffle(steps)
    return [Prompt(context=[document(int(tokens * ratio), recipe.dice)]) for tokens in steps]


def _mixed(recipe: Recipe) -> list[Prompt]:
    kinds = (_short, _short, _short, _fewshot, _short, _fewshot, _short, _long)
    one = Recipe(1, recipe.tokens, recipe.dice, recipe.characters_per_token)
    return [kinds[row % len(kinds)](one)[0] for row in range(recipe.rows)]


MIXES: dict[str, Callable[[Recipe], list[Prompt]]] = {
    "short": _short,
    "fewshot": _fewshot,
    "bank": _bank,
    "long": _long,
    "mixed": _mixed,
}


# ---- their text


@lru_cache(maxsize=1)
def paragraphs() -> tuple[str, ...]:
    """Paragraphs of prose, in a fixed order."""
    installed = (dist.metadata for dist in importlib.metadata.distributions())  # each is parsed when asked for
    described = {about["Name"].lower(): about for about in installed if about["Name"]}
    bodies = (described[name].get_payload() for name in sorted(described))  # type: ignore[attr-defined]
    texts = [*(topics[name] for name in sorted(topics)), *(body for body in bodies if isinstance(body, str))]
    pieces = (piece.strip() for text in texts for piece in _PARAGRAPH.split(text))
    long = [piece for piece in pieces if len(piece) >= _SHORTEST]
    return tuple(dict.fromkeys(one for one in long if sum(c.isalpha() or c == " " for c in one) / len(one) > _WORDY))


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
    name, thing = dice.choice(_NAMES), dice.choice(_ITEMS)
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
