"""`Structure`, the protocol of tags, JSON and chat messages, and `stream`, which takes many values through one engine.

A structure is two pure functions. `decompose` makes a value into a `Prompt` whose context strings are pieces with
rates of their own; `reassemble` takes the value again, with the outcome of that prompt, and gives the compressed value.
Neither touches a model, so a worker can stream any number of values. When all is kept, the result equals the value:
byte for byte for text, tags aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from lingua.structure.chat import Messages
from lingua.structure.json import Json
from lingua.structure.tags import Tags

Kind = Literal["structured", "json", "messages"]
V = TypeVar("V")


class Structure(Protocol[V]):
    """A kind of value that holds text; both functions raise PromptError for a value that cannot be read."""

    def decompose(self, value: V) -> Prompt:
        """The value's pieces as a prompt."""
        ...

    def reassemble(self, value: V, outcome: CompressedPrompt) -> V:
        """The value again, with what is left of its pieces. `outcome` is that of ``decompose(value)``."""
        ...


@dataclass(frozen=True, slots=True)
class CompressedValue(Generic[V]):
    """A compressed value, and the outcome of its prompt: tokens, rate, status."""

    value: V
    outcome: CompressedPrompt


def structure_of(kind: Kind, config: CompressionConfig, count: Callable[[str], int]) -> Structure[Any]:
    """The structure of a kind of column under these settings; `count` counts tokens in the target tokenizer."""
    if kind == "structured":
        return Tags()
    return Json.of(config.json_rules) if kind == "json" else Messages(config, count)


class Streams(Protocol):
    """What is needed of a compressor."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]: ...


def stream(
    compressor: Streams, structure: Structure[V], values: Iterable[V]
) -> Iterator[CompressedValue[V] | Rejected]:
    """Compress values lazily: one result for each, in order; a value that cannot be read becomes a `Rejected`."""
    waiting: deque[tuple[V, Rejected | None]] = deque()
    for outcome in compressor.stream(_prompts(structure, values, waiting)):
        yield from _rejected(waiting)
        value, _ = waiting.popleft()
        yield outcome if isinstance(outcome, Rejected) else _restored(structure, value, outcome)
        yield from _rejected(waiting)
    yield from _rejected(waiting)


def _restored(structure: Structure[V], value: V, outcome: CompressedPrompt) -> CompressedValue[V]:
    return CompressedValue(structure.reassemble(value, outcome), outcome)


def _prompts(
    structure: Structure[V], values: Iterable[V], waiting: deque[tuple[V, Rejected | None]]
) -> Iterator[Prompt]:
    for value in values:
        try:
            prompt = structure.decompose(value)
        except PromptError as error:
            waiting.append((value, Rejected(error.reason, error.detail)))
            continue
        waiting.append((value, None))
        yield prompt


def _rejected(waiting: deque[tuple[V, Rejected | None]]) -> Iterator[Rejected]:
    """Take the values at the head that never reached the compressor."""
    while waiting and (rejected := waiting[0][1]) is not None:
        waiting.popleft()
        yield rejected
