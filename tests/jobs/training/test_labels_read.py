"""Rows become pieces; one that cannot be used ends the run with its file, number and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import Storage
from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_chunks import Chunker
from jobs.training.labels_read import groups, read_pieces, require_rows
from lingua.errors import ConfigError
from tests.jobs.training.distill_runs import tokenizer
from tests.texts import PROSE


def config(folder: Path, *rows: Any, **settings: Any) -> DistillConfig:
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    return DistillConfig(**{"input": str(folder / "rows.jsonl"), "output": str(folder / "out"), **settings})


def test_a_text_is_read_in_chunks_that_know_their_row(tmp_path: Path) -> None:
    given = config(tmp_path, {"text": PROSE}, {"text": "Short."}, chunk_tokens=40)
    pieces = list(read_pieces(given, Storage(), Chunker(tokenizer(), 40)))
    assert "".join(piece.text for piece in pieces[:-1]).split() == PROSE.split()
    assert {piece.origin for piece in pieces[:-1]} == {"rows.jsonl, row 0"}
    assert (pieces[-1].text, pieces[-1].origin) == ("Short.", "rows.jsonl, row 1")


def test_pairs_and_labels_are_read_whole(tmp_path: Path) -> None:
    chunker = Chunker(tokenizer(), 16)
    pairs = config(tmp_path, {"text": PROSE, "shorter": "met"}, teacher="pairs", compressed_column="shorter")
    (piece,) = read_pieces(pairs, Storage(), chunker)
    assert (piece.text, piece.compressed) == (PROSE, "met")
    labels = config(tmp_path, {"words": ["one", " two"], "labels": [1, 0]}, teacher="labels")
    (piece,) = read_pieces(labels, Storage(), chunker)
    assert piece.text == "one two"


def test_parquet_is_read_as_well(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one two", "three"], "other": [1, 2]}), tmp_path / "rows.parquet")
    given = DistillConfig(input=str(tmp_path / "rows.parquet"), output=str(tmp_path / "out"))
    assert [piece.text for piece in read_pieces(given, Storage(), Chunker(tokenizer(), 16))] == ["one two", "three"]


def test_a_limit_reads_the_first_rows(tmp_path: Path) -> None:
    assert require_rows(config(tmp_path, *[{"text": "a"}] * 5, limit=3), Storage()) == 3


@pytest.mark.parametrize(
    ("row", "settings", "complaint"),
    [
        ({"body": "x"}, {}, r"rows\.jsonl, row 1: no column 'text', but body"),
        ({"text": 3}, {}, r"row 1: text = '3' is no text but int"),
        ({"text": " "}, {}, r"row 1: text is empty"),
        ('{"text": "\\ud800"}\n', {}, r"row 1: text holds a lone surrogate"),
        ("{\n", {}, r"rows\.jsonl, row 1: "),
        ({"text": "x"}, {"teacher": "pairs"}, r"row 1: no column 'compressed'"),
        ({"words": ["x"], "labels": []}, {"teacher": "labels"}, r"row 1: 1 words but 0 labels"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: Any, settings: dict[str, Any], complaint: str) -> None:
    good = {"text": "x", "compressed": "x", "words": ["x"], "labels": [1]}
    with pytest.raises(ConfigError, match=complaint):
        require_rows(config(tmp_path, good, row, **settings), Storage())


def test_no_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no rows"):
        require_rows(config(tmp_path, ""), Storage())


def test_groups_are_numbered_and_the_last_may_be_short() -> None:
    assert [(number, len(group)) for number, group in groups(iter(range(7)), 3)] == [(0, 3), (1, 3), (2, 1)]
