"""Chunks lose nothing, are no longer than they may be, and end with sentences."""

from __future__ import annotations

import pytest

from jobs.training.labels_chunks import Chunker
from tests.jobs.training.distill_runs import tokenizer
from tests.texts import NASTY, PROSE


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_chunks_hold_all_but_white_space(text: str) -> None:
    found = list(Chunker(tokenizer(), 8).chunks(text))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(chunk.strip() for chunk in found)


@pytest.mark.parametrize("size", [16, 40, 1000])
def test_a_chunk_is_at_most_as_long_as_asked(size: int) -> None:
    counts = [tokenizer().count(chunk) for chunk in Chunker(tokenizer(), size).chunks(PROSE)]
    assert max(counts) <= size


def test_chunks_end_with_sentences_where_these_fit() -> None:
    chunks = list(Chunker(tokenizer(), 90).chunks(PROSE))
    assert len(chunks) > 1
    assert all(chunk.rstrip()[-1] in ".!?" for chunk in chunks)
