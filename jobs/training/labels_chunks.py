"""A long text in pieces that a model can read: as long as they may be, ending where a sentence does.

The same windows in which `method: llmlingua2` will read the text later (`lingua.methods.llmlingua2.windows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lingua.config import CompressionConfig
from lingua.draft import Drafter, Part
from lingua.methods.llmlingua2 import windows
from lingua.tokens import SourceTokenizer

LONG = 1 << 30


class Chunker:
    """Cuts texts into chunks of at most `size` tokens of `tokenizer`."""

    def __init__(self, tokenizer: SourceTokenizer, size: int, language: str = "en") -> None:
        self._drafter = Drafter(tokenizer, tokenizer, CompressionConfig(method="llmlingua2"), LONG, None)
        self._tokenizer, self._size, self._language = tokenizer, size, language

    def part(self, text: str) -> Part:
        """The text in the tokens and words in which it will be compressed."""
        return self._drafter.part(self._tokenizer.encode([text])[0], "word")

    def ranges(self, part: Part) -> list[tuple[int, int]]:
        """The token ranges [begin, end) of the chunks; they tile the text."""
        return list(windows(part, self._size, self._language))

    def chunks(self, text: str) -> Iterator[str]:
        """The chunks that hold more than white space; white space between two belongs to the later one."""
        part = self.part(text)
        begins = [int(part.encoding.token_starts[begin]) for begin, _ in self.ranges(part)]
        edges = [*dict.fromkeys([0, *begins]), len(text)]
        pieces = (text[start:end] for start, end in pairwise(edges))
        yield from (piece for piece in pieces if piece.strip())
