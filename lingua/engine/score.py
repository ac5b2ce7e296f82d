"""The one primitive, `Score`: the surprisal of some tokens after some context; who asks, who answers, what is cached.

A method is a program: a generator that yields lists of independent `Score`s, is sent their answers and returns its
result. A `Scorer` answers the rows of a batch. A context longer than the model's window slides: once its tokens and the
request no longer fit, the oldest are forgotten and the newest half window stays, after the start token. As contexts
hold *kept* text only, a prompt of any length is compressed to its end with the window moving over what was kept.

A corpus repeats itself, above all one of conversations or of joined tables: `ScoreCache` keeps answers for all engines
of a scorer, by what was read and what was asked.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from lingua.errors import LinguaError, ModelError

Answer = npt.NDArray[np.float32]
"""What a scorer says of each token of a probe [tokens, …]: surprisal in nats, keep probability, or state."""
T = TypeVar("T")
V = TypeVar("V")
Arriving = Callable[[], V]
"""Waits for what a device computes and gives it. May raise OutOfMemoryError."""
Needs = Literal["causal", "encoder", "sentences", "nothing"]
"""What answers the scores of a method: a causal model, an encoder, an encoder of sentences, or none of these."""


class OutOfMemoryError(LinguaError):
    """The device could not hold a batch; the engine computes smaller ones for a while."""


class PoolFullError(OutOfMemoryError):
    """No room for more keys and values: there will be when some contexts are done; smaller batches do not help."""


class Cache(Protocol):
    """What a scorer keeps (keys and values) of a context's first `length` tokens."""

    length: int

    def fork(self) -> Cache: ...


class Digest:
    """A running digest of token ids: 128 bits, so that two texts never share one. `count` ids are in it."""

    __slots__ = ("_hash", "count")

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.count = 0
        self.after(ids)

    def after(self, ids: Sequence[int]) -> bytes:
        """Take in more ids; the digest of all."""
        self._hash.update(np.asarray(ids, np.int64).tobytes())
        self.count += len(ids)
        return self._hash.digest()


def digest_of(ids: Sequence[int]) -> bytes:
    return Digest().after(ids)


@dataclass(slots=True, eq=False)
class Context:
    """What a model has read: `head` (the start token, if any) and `ids` from `begin` on.

    `cache` belongs to the scorer. `reserved`: tokens for which memory is set aside while the context is read on, those
    that it is expected to grow to, or answers of that many tokens that its program holds.
    The engine notes in `last_key` what was read at the last request, in `shelved` what of it others may borrow.
    """

    head: tuple[int, ...] = ()
    ids: list[int] = field(default_factory=list)
    begin: int = 0
    cache: Cache | None = None
    reserved: int = 0
    last_key: bytes = b""
    shelved: bytes = b""
    _digest: Digest | None = None

    def fork(self) -> Context:
        """A context with the same beginning that goes its own way; cached keys and values are shared."""
        cache = self.cache.fork() if self.cache is not None else None
        return Context(self.head, list(self.ids), self.begin, cache, self.reserved)

    def key(self) -> bytes:
        """Equal for contexts in which a model reads the same; costs only what is new since it was last asked for."""
        if self._digest is None:
            self._digest = Digest(self.head)
        begin = self.begin + self._digest.count - len(self.head)
        return self._digest.after(self.ids[begin:])

    def __len__(self) -> int:
        return len(self.head) + len(self.ids) - self.begin

    def visible(self, start: int) -> list[int]:
        """The visible ids from the `start`th on."""
        if start >= len(self.head):
            return self.ids[self.begin + start - len(self.head) :]
        return [*self.head[start:], *self.ids[self.begin :]]

    def slide(self, tokens: int, window: int) -> None:
        """Forget the oldest ids if `tokens` more would not fit into `window`."""
        if len(self) + tokens <= window:
            return
        keep = max(0, min(window // 2, window - tokens) - len(self.head))
        self.begin = len(self.ids) - keep
        self.cache = self._digest = None
        self.last_key = b""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Ask for the surprisal (nats) of each `probe` token after `context` and `commit`.

    commit   ids appended to the context for good, before probing
    probe    ids scored after it and then forgotten
    """

    context: Context
    probe: Sequence[int]
    commit: Sequence[int] = ()


Program = Generator[list[Score], list[Answer], T]


@dataclass(frozen=True, slots=True, eq=False)
class BatchRow:
    """One row of a batch: a question about `probe` after `context`."""

    context: Context
    probe: Sequence[int]
    retain: bool = False  # the probe's keys and values stay cached, as part of the context


class Scorer(Protocol):
    """Answers batches: each kind of scorer says in `score` or in `start` how, and has the other from here."""

    window: int  # the longest sequence, context and probe together
    batch_tokens: int  # tokens computed per batch; the engine lowers it while memory is short
    live_tokens: int  # context tokens that may be kept alive at once, besides the batches under way
    ahead: int = 0  # batches that may be begun before the answers of the one before are asked for; 0: the host computes

    @property
    def probe_tokens(self) -> int:
        """The longest probe that one row may hold; the engine cuts longer ones."""

    def cached(self, context: Context) -> int:
        """How many of the context's tokens need no work."""
        return 0

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        """The answer to every row. Raises OutOfMemoryError."""
        return self.start(rows)()

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        """Begin a batch, whose contexts count as computed from here on; done already unless a device computes it.

        Raises OutOfMemoryError.
        """
        answers = self.score(rows)
        return lambda: answers


class NoScorer(Scorer):
    """For methods that ask for nothing."""

    window = batch_tokens = live_tokens = probe_tokens = 1 << 20

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        raise ModelError("this method was registered as needing no model, yet it asked for scores")


def _passed_on(name: str) -> Any:
    return property(lambda own: getattr(own.scorer, name), lambda own, value: setattr(own.scorer, name, value))


class TimedScorer(Scorer):
    """Answers as `scorer` does.

    seconds   how long batches were under way, from their beginning until their answers were on the host
    """

    window: int = _passed_on("window")
    batch_tokens: int = _passed_on("batch_tokens")
    live_tokens: int = _passed_on("live_tokens")
    probe_tokens: int = _passed_on("probe_tokens")
    ahead: int = _passed_on("ahead")

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.seconds = 0.0
        self._until = 0.0

    def cached(self, context: Context) -> int:
        return self.scorer.cached(context)

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        begun = time.perf_counter()
        try:
            answers = self.scorer.start(rows)
        finally:
            self._count(begun)
        return lambda: self._finish(begun, answers)

    def _finish(self, begun: float, answers: Arriving[list[Answer]]) -> list[Answer]:
        try:
            return answers()
        finally:
            self._count(begun)

    def _count(self, begun: float) -> None:
        """Add the time since `begun`, as far as it was not counted for another batch."""
        now = time.perf_counter()
        self.seconds += now - max(begun, self._until)
        self._until = now


# ---- answers computed before


class BoundedStore(Generic[V]):
    """Values by key. Holds sizes of `capacity` altogether; what was used least recently goes first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = self._left = capacity
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Hold `value`, unless it is larger than the capacity; one that is held under this key already stays."""
        if key in self._values or size > self._capacity:
            return
        self._values[key] = value, size
        self._left -= size
        while self._left < 0:
            self.drop(next(iter(self._values)))

    def drop(self, key: Hashable) -> None:
        if key in self._values:
            self._left += self._values.pop(key)[1]

    def clear(self) -> None:
        for key in list(self._values):
            self.drop(key)


ENTRY = 128
"""Numbers that a key and what is kept for it weigh besides the array itself."""


class ScoreCache:
    """Float32 arrays by key: at most `values` numbers, `ENTRY` for each key; with 0 nothing is remembered or shared.

    They are copied in and handed out read-only, as all who ask share them.
    """

    def __init__(self, values: int = 1 << 24) -> None:
        self.enabled = values > 0
        self._arrays: BoundedStore[Answer] = BoundedStore(values)

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> Answer | None:
        return self._arrays.get(key)

    def put(self, key: Hashable, array: Answer) -> None:
        array = array.copy()
        array.flags.writeable = False
        self._arrays.put(key, array, array.size + ENTRY)
