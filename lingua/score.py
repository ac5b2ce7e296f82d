"""The one primitive, `Score`: the surprisal of some tokens after some context; who asks it and who answers it.

A method is a program: a generator that yields lists of independent `Score`s, is sent their answers and returns its
result. A `Scorer` answers the rows of a batch. A context longer than the model's window slides: once its tokens and the
request no longer fit, the oldest are forgotten and the newest half window stays, after the start token. As contexts
hold *kept* text only, a prompt of any length is compressed to its end with the window moving over what was kept.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from lingua.errors import LinguaError, ModelError
from lingua.memory import Digest

Surprisal = npt.NDArray[np.float32]
T = TypeVar("T")


class OutOfMemoryError(LinguaError):
    """The device could not hold a batch; the engine halves its batches and goes on."""


@dataclass(slots=True, eq=False)
class Context:
    """What a model has read: `head` (the start token, if any) and `ids` from `begin` on.

    `cache` belongs to the scorer: whatever it keeps (keys and values) of the visible tokens.
    The engine notes in `asked` what was read at the last request, in `shelved` what of it others may borrow.
    """

    head: tuple[int, ...] = ()
    ids: list[int] = field(default_factory=list)
    begin: int = 0
    cache: Any = None
    asked: bytes = b""
    shelved: bytes = b""
    _digest: Digest | None = None

    def fork(self) -> Context:
        """A context with the same beginning that goes its own way; cached keys and values are shared."""
        cache = self.cache.fork() if self.cache is not None else None
        return Context(self.head, list(self.ids), self.begin, cache)

    def key(self) -> bytes:
        """Equal for contexts in which a model reads the same; costs only what is new since it was last asked for."""
        if self._digest is None:
            self._digest = Digest(self.head)
        begin = self.begin + self._digest.count - len(self.head)
        return self._digest.after(self.ids[begin:])

    def __len__(self) -> int:
        return len(self.head) + len(self.ids) - self.begin

    def visible(self, start: int) -> list[int]:
        """The visible ids from position `start` on."""
        if start >= len(self.head):
            return self.ids[self.begin + start - len(self.head) :]
        return [*self.head[start:], *self.ids[self.begin :]]

    def make_room(self, tokens: int, window: int) -> None:
        """Forget the oldest ids if `tokens` more would not fit into `window`."""
        if len(self) + tokens <= window:
            return
        keep = max(0, min(window // 2, window - tokens) - len(self.head))
        self.begin = len(self.ids) - keep
        self.cache = self._digest = None
        self.asked = b""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Ask for the surprisal (nats) of each `probe` token after `context` and `commit`.

    commit   ids appended to the context for good, before probing
    probe    ids scored after it and then forgotten
    """

    context: Context
    probe: Sequence[int]
    commit: Sequence[int] = ()


Program = Generator[list[Score], list[Surprisal], T]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a batch: surprisal of `probe` after `context`; with `retain` its keys and values stay cached."""

    context: Context
    probe: Sequence[int]
    retain: bool = False


class Scorer(Protocol):
    """Answers batches.

    window         the longest sequence, context and probe together
    batch_tokens   tokens computed per batch; the engine lowers it when memory runs out
    live_tokens    context tokens that may be kept alive at once
    """

    window: int
    batch_tokens: int
    live_tokens: int

    @property
    def probe_tokens(self) -> int:
        """The longest probe that one row may hold; the engine cuts longer ones."""
        ...

    def cached(self, context: Context) -> int:
        """How many of the context's tokens need no work."""
        ...

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        """Surprisal of every probe, float32. Raises OutOfMemoryError."""
        ...


class NoScorer:
    """For methods that ask for nothing."""

    window = batch_tokens = live_tokens = probe_tokens = 1 << 20

    def cached(self, context: Context) -> int:
        return 0

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        raise ModelError("this method was registered as needing no model, yet it asked for scores")
