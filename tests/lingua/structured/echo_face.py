"""A compressor of structured values over the tests' echo scorer, and strings that have broken compressors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lingua.config import CompressionConfig
from lingua.prompt import Outcome, Prompt
from lingua.structured.streams import StructuredFace
from tests.lingua.echo import NASTY, compress, tokenizer

STRINGS = (
    *NASTY,
    "<",
    "</",
    "שלום עולם, זה טקסט",
    '"quoted" \\ and\\n escaped',
    "</llmlingua",
    "one word per line\n" * 40,
)
LONG_LINE = "abcdefghij" * 20_000
PROSE = "The committee met in Vienna to settle the price of coal and of steel, and nobody left the station at noon."


class EchoCompressor(StructuredFace):
    """Compresses with method llmlingua over an `EchoScorer`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config = CompressionConfig(**{"method": "llmlingua", **settings})

    def count(self, text: str) -> int:
        return tokenizer().count(text)

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        return iter(compress(prompts, **self.settings))


def is_subsequence(short: str, long: str) -> bool:
    """Whether the characters of `short` stand in `long`, in their order."""
    rest = iter(long)
    return all(character in rest for character in short)
