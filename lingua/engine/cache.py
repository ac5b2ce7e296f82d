"""What was computed once and may be asked for again: scores by what was read, and the outcomes of equal prompts.

A corpus repeats itself, above all one of conversations or of joined tables. `ScoreCache` keeps answers for all engines
of a scorer; `Deduplication` compresses equal prompts once. What is on its way is shared too, as outcomes come in the
order of the prompts: when a later one's turn comes, the first is done.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lingua.engine.score import Program
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected

Array = npt.NDArray[np.float32]
V = TypeVar("V")


class BoundedStore(Generic[V]):
    """Values by key. Holds sizes of `room` altogether; what was used least recently goes first."""

    def __init__(self, room: int) -> None:
        self._capacity = self._room = room
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Hold `value`, unless it is larger than all the room; one that is held under this key already stays."""
        if key in self._values or size > self._capacity:
            return
        self._values[key] = value, size
        self._room -= size
        while self._room < 0:
            self.drop(next(iter(self._values)))

    def drop(self, key: Hashable) -> None:
        """Forget a key, if it is known."""
        if key in self._values:
            self._room += self._values.pop(key)[1]

    def clear(self) -> None:
        for key in list(self._values):
            self.drop(key)


ENTRY = 128
"""Numbers that a key and what is kept for it weigh besides the array itself."""


class ScoreCache:
    """Float32 arrays by key: at most `values` numbers, `ENTRY` for each key; with 0 nothing is remembered or shared.

    Arrays are copied in and handed out read-only, as all who ask share them.
    """

    def __init__(self, values: int = 1 << 24) -> None:
        self.enabled = values > 0
        self._arrays: BoundedStore[Array] = BoundedStore(values)

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> Array | None:
        return self._arrays.get(key)

    def put(self, key: Hashable, array: Array) -> None:
        array = array.copy()
        array.flags.writeable = False
        self._arrays.put(key, array, array.size + ENTRY)


KNOWN_BYTES = 1 << 26
"""Of outcomes that are remembered."""
_OUTCOME, _CHARACTER, _SPAN = 500, 4, 128
"""Bytes of an outcome, of each character of its texts and of each kept span, at most."""


@dataclass(slots=True, eq=False)
class PendingOutcome:
    """Where the outcome of equal prompts will be once the first of them is done."""

    outcome: Outcome | None = None

    @property
    def filled(self) -> Outcome:
        if self.outcome is None:
            raise RuntimeError("an outcome was asked for before its prompt was done")
        return self.outcome


class Deduplication:
    """Makes programs of prompts for one run; `known` holds the outcomes of earlier runs under the same settings."""

    def __init__(self, known: BoundedStore[Outcome], compress: Callable[[Prompt], Program[CompressedPrompt]]) -> None:
        self._known = known
        self._compress = compress
        self._open: dict[bytes, PendingOutcome] = {}

    def program(self, prompt: Prompt) -> Program[PendingOutcome]:
        """The prompt's program for the engine; of a repeated one, a program that asks for nothing."""
        key = _digest_of_prompt(prompt)
        known = self._known.get(key)
        if known is not None:
            return _at_once(PendingOutcome(known))
        if key in self._open:
            return _at_once(self._open[key])
        self._open[key] = PendingOutcome()
        return self._first(key, prompt)

    def _first(self, key: bytes, prompt: Prompt) -> Program[PendingOutcome]:
        place = self._open[key]
        try:
            place.outcome = yield from self._compress(prompt)
        except PromptError as error:
            place.outcome = Rejected(error.reason, error.detail)
        self._known.put(key, place.filled, size_of(place.filled))
        del self._open[key]
        return place


def size_of(outcome: Outcome) -> int:
    """Bytes that an outcome takes, from above."""
    if isinstance(outcome, Rejected):
        return _OUTCOME + _CHARACTER * len(outcome.detail)
    texts = (outcome.text, outcome.instruction, outcome.question, *outcome.context)
    spans = len(outcome.kept_spans) + sum(map(len, outcome.kept_spans))
    return _OUTCOME + _CHARACTER * sum(map(len, texts)) + _SPAN * spans


def _at_once(place: PendingOutcome) -> Program[PendingOutcome]:
    yield from ()
    return place


def _digest_of_prompt(prompt: Prompt) -> bytes:
    return hashlib.blake2b(repr(prompt).encode(), digest_size=16).digest()
