"""Rows become examples, or the run ends with the file, the row and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.examples import Example, digest, read_examples, split
from lingua.errors import ConfigError
from tests.texts import NASTY

ROWS = [{"instruction": f"Ask {number}", "input": f"text {number}", "response": f"Say {number}"} for number in range(9)]


def read(path: Path, **settings: Any) -> list[Example]:
    return read_examples(AlignConfig(input=str(path), output=str(path.parent / "out"), **settings), Storage())


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_json_lines_and_parquet_give_the_same_examples_in_the_same_order(tmp_path: Path) -> None:
    lines = read(write(tmp_path / "a.jsonl", *ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS[::-1]), tmp_path / "b.parquet")
    assert lines == read(tmp_path / "b.parquet")
    assert digest(lines) == digest(read(tmp_path / "b.parquet"))
    assert {example.before for example in lines} == {f"Ask {number}\n" for number in range(9)}


def test_the_input_column_stands_after_the_instruction_in_the_template(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[3])
    (example,) = read(path, input_column="input", template="Q: {instruction}\nA:")
    assert example == Example("Q: Ask 3\n\ntext 3\nA:", "Say 3")


def test_braces_in_an_instruction_are_text(tmp_path: Path) -> None:
    (example,) = read(write(tmp_path / "a.jsonl", {"instruction": "{instruction} {0}", "response": "{x}"}))
    assert example == Example("{instruction} {0}\n", "{x}")


@pytest.mark.parametrize("text", [text for text in NASTY.values() if text.strip()])
def test_any_text_comes_through_unchanged(tmp_path: Path, text: str) -> None:
    (example,) = read(write(tmp_path / "a.jsonl", {"instruction": text, "response": text}))
    assert example == Example(f"{text}\n", text)


def test_equal_rows_count_once_and_another_seed_draws_another_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *ROWS, *ROWS)
    assert len(read(path)) == len(ROWS)
    assert read(path, seed=1) != read(path)
    assert read(path, limit=4) == read(path)[:4]


def test_with_a_target_the_response_column_is_not_read(tmp_path: Path) -> None:
    (example,) = read(write(tmp_path / "a.jsonl", {"instruction": "Ask", "response": 5}), target="some-model")
    assert example == Example("Ask\n", "")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"instruction": "Ask"}, "row 1: no column 'response', but instruction"),
        ({"instruction": "Ask", "response": 5}, "row 1: response = '5' is no text but int"),
        ({"instruction": "Ask", "response": None}, "row 1: response = 'None' is no text but NoneType"),
        ({"instruction": " ", "response": "Say"}, "row 1: instruction is empty"),
        ({"instruction": "Ask", "response": ""}, "row 1: response is empty"),
        ({"instruction": "Ask", "response": "\ud800"}, "row 1: response holds a lone surrogate"),
        (["no object"], "row 1: the line holds a JSON list"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: object, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path / "a.jsonl", ROWS[0], row))
    assert f"{tmp_path}/a.jsonl, {complaint}" in str(caught.value)


def test_an_input_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no rows"):
        read(write(tmp_path / "a.jsonl"))


def test_a_held_out_instruction_is_never_trained_on() -> None:
    examples = [Example(f"Ask {number % 5}", f"Say {number}") for number in range(20)]
    parts = split(examples, 3)
    assert parts.held_out == tuple(examples[:3])
    assert {example.before for example in parts.train} == {"Ask 3", "Ask 4"}


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out = 4: of 4 usable rows none is left"):
        split([Example(f"Ask {number}", "Say") for number in range(4)], 4)
