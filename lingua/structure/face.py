"""`StructuredFace`: what a compressor offers for tagged texts, JSON and conversations, one at a time or streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from lingua.config import CompressionConfig
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.structure.json import Json
from lingua.structure.streaming import CompressedValue, Kind, Structure, stream, structure_of

V = TypeVar("V")


class _Compressor(Protocol):
    """What the methods below stand on."""

    config: CompressionConfig

    def count(self, text: str) -> int: ...

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]: ...


class StructuredFace:
    """Methods for structured values. Those for a single one raise PromptError where a stream gives a `Rejected`."""

    def compress_structured(self: _Compressor, text: str) -> CompressedValue[str]:
        """A text with ``<llmlingua, rate=…, compress=…>`` tags; what stands outside of them has the configured rate."""
        return _single(self, structure_of("structured", self.config, self.count), text)

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
        """A conversation in a known form, as the settings `message_rates`, `keep_newest_user` and `older_turns` say."""
        return _single(self, structure_of("messages", self.config, self.count), messages)

    def structure(self: _Compressor, kind: Kind) -> Structure[Any]:
        """The pure function pair of a kind of values under these settings, for those who stream themselves."""
        return structure_of(kind, self.config, self.count)

    def stream_structured(
        self: _Compressor, structure: Structure[V], values: Iterable[V]
    ) -> Iterator[CompressedValue[V] | Rejected]:
        """Compress many values lazily: one result for each, in order."""
        return stream(self, structure, values)


def _single(compressor: _Compressor, structure: Structure[V], value: V) -> CompressedValue[V]:
    (result,) = stream(compressor, structure, [value])
    if isinstance(result, Rejected):
        raise PromptError(result.reason, result.detail)
    return result
