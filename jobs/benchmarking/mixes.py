"""Prompt mixes: what a corpus looks like, in rows of a settable size, or read from a file.

short    documents of about 170 tokens                  fewshot   eight worked problems and a question, about 2,700
bank     the same demonstrations in every row, 2,700    long      documents from 5,000 to 30,000 tokens
mixed    all of these, shuffled
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmarking.corpus import document, problem, question
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Prompt

INSTRUCTION = "Answer the last question. The examples before it show how."
DEMONSTRATIONS = 8
LONG = (5_000, 30_000)
_SAMPLE = 20_000


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


def read_mix(path: Path, rows: int) -> Mix:
    """The first `rows` prompts of a JSON Lines file. Raises ConfigError naming the line."""
    try:
        with path.open(encoding="utf-8") as lines:
            prompts = [_prompt(path, number, line) for number, line in zip(range(1, rows + 1), lines, strict=False)]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--data {path}: {error}") from error
    if not prompts:
        raise ConfigError(f"--data {path}: no rows")
    return Mix(path.stem, tuple(prompts))


def _prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise TypeError("not an object")
        return Prompt(row.get("instruction", ""), row["context"], row.get("question", ""))
    except (ValueError, KeyError, TypeError, PromptError) as error:
        raise ConfigError(f"--data {path}, line {number}: {type(error).__name__} {error}") from error


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
    return Prompt(INSTRUCTION, shared, question(recipe.dice))


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
