"""`Structure`, the protocol of tags, JSON and chat messages, and how a compressor takes such values, one or many.

A structure is two pure functions. `decompose` makes a value into a `Prompt` whose context strings are pieces with
rates of their own; `reassemble` takes the value again, with the outcome of that prompt, and gives the compressed value.
Neither touches a model, so a worker can stream any number of values. When all is kept, the result equals the value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from lingua.errors import ConfigError, PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from lingua.shared import SharedSettings
from lingua.structured.json import Json
from lingua.structured.messages import Messages
from lingua.structured.tags import Tags

Kind = Literal["structured", "json", "messages"]
V = TypeVar("V")


class Structure(Protocol[V]):
    """A kind of value that holds text; both functions raise PromptError for a value that cannot be read."""

    def decompose(self, value: V) -> Prompt:
        """The value's pieces as a prompt."""

    def reassemble(self, value: V, outcome: CompressedPrompt) -> V:
        """The value again, with what is left of its pieces. `outcome` is that of ``decompose(value)``."""


@dataclass(frozen=True, slots=True)
class CompressedValue(Generic[V]):
    """A compressed value, and the outcome of its prompt: tokens, rate, status."""

    value: V
    outcome: CompressedPrompt


def structure_of(kind: Kind, config: SharedSettings) -> Structure[Any]:
    """The structure of a kind of column under these settings."""
    if kind == "structured":
        return Tags()
    return Json.of(config.json_rules) if kind == "json" else Messages(config.message_rates)


class PromptStream(Protocol):
    """What is needed of a compressor."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]: ...


def stream(
    compressor: PromptStream, structure: Structure[V], values: Iterable[V]
) -> Iterator[CompressedValue[V] | Rejected]:
    """Compress values lazily: one result for each, in order; a value that cannot be read becomes a `Rejected`."""
    waiting: deque[tuple[V, Rejected | None]] = deque()
    for outcome in compressor.stream(_prompts(structure, values, waiting)):
        yield from _rejected(waiting)
        value, _ = waiting.popleft()
        if isinstance(outcome, Rejected):
            yield outcome
        else:
            yield CompressedValue(structure.reassemble(value, outcome), outcome)
        yield from _rejected(waiting)
    yield from _rejected(waiting)


def _prompts(structure: Structure[V], values: Iterable[V], queue: deque[tuple[V, Rejected | None]]) -> Iterator[Prompt]:
    for value in values:
        try:
            prompt = structure.decompose(value)
        except PromptError as error:
            queue.append((value, Rejected(error.reason, error.detail)))
            continue
        queue.append((value, None))
        yield prompt


def _rejected(waiting: deque[tuple[V, Rejected | None]]) -> Iterator[Rejected]:
    """Take the values at the head that never reached the compressor."""
    while waiting and (rejected := waiting[0][1]) is not None:
        waiting.popleft()
        yield rejected


class _Compressor(PromptStream, Protocol):
    config: SharedSettings


class StructuredFace:
    """Methods for structured values. Those for a single one raise PromptError where a stream gives a `Rejected`."""

    def compress_structured(self: _Compressor, text: str) -> CompressedValue[str]:
        """A text with ``<llmlingua, rate=…, compress=…>`` tags; what stands outside of them has the configured rate."""
        return _single(self, Tags(), text)

    def compress_json(self: _Compressor, value: Any, rules: Mapping[str, object] | None = None) -> CompressedValue[Any]:
        """JSON text, or a Python value of objects and lists; `rules` instead of the setting `json_rules`.

        rules   from key paths like ``items[].text`` to a rate, ``keep``, ``compress`` or ``drop``

        Raises ConfigError for a rule that cannot be read.
        """
        try:
            structure = Json.of(self.config.json_rules if rules is None else rules)
        except ValueError as error:
            raise ConfigError(f"rules: {error}") from None
        return _single(self, structure, value)

    def compress_messages(self: _Compressor, messages: Any) -> CompressedValue[Any]:
        """A conversation in a known form, as the setting `message_rates` says."""
        return _single(self, Messages(self.config.message_rates), messages)

    def structure(self: _Compressor, kind: Kind) -> Structure[Any]:
        """The pure function pair of a kind of values under these settings, for those who stream themselves."""
        return structure_of(kind, self.config)


def _single(compressor: _Compressor, structure: Structure[V], value: V) -> CompressedValue[V]:
    (result,) = stream(compressor, structure, [value])
    if isinstance(result, Rejected):
        raise PromptError(result.reason, result.detail)
    return result
