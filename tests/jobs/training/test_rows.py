"""Rows become examples and passages, or the run ends with the file, the row and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage.storage import Storage
from jobs.training.labels import Passage
from jobs.training.rows import Example, read_examples, read_passages, split
from jobs.training.settings import AlignConfig, DistillConfig
from lingua.errors import ConfigError
from tests.texts import NASTY, PROSE

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


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.list_(pa.string())])
def test_text_of_parquet_that_is_not_utf8_is_named_where_it_is_read_and_harmless_elsewhere(
    tmp_path: Path, kind: pa.DataType
) -> None:
    listed = pa.types.is_list(kind)
    raw = pa.array([b"fine", b"caf\xe9"]).cast(pa.large_binary() if kind == pa.large_string() else pa.binary())
    bad = pa.Array.from_buffers(kind if not listed else pa.string(), 2, raw.buffers())
    other = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad) if listed else bad
    table = pa.table({"instruction": ["Ask", "Ask more"], "response": ["Say", "Say more"], "other": other})
    pq.write_table(table, tmp_path / "a.parquet")
    assert {example.response for example in read(tmp_path / "a.parquet")} == {"Say", "Say more"}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a.parquet", input_column="other")
    complaint = "row 0: other = " if listed else "row 1: other is not UTF-8 at byte 3; write it again"
    assert f"{tmp_path}/a.parquet, {complaint}" in str(caught.value)


def test_a_moment_that_python_does_not_know_is_named_where_it_is_read(tmp_path: Path) -> None:
    moments = pa.array([1 << 50], pa.int64()).cast(pa.timestamp("ms"))
    pq.write_table(pa.table({"instruction": ["Ask"], "response": ["Say"], "at": moments}), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")) == 1
    with pytest.raises(ConfigError, match=r"a\.parquet, row 0: at is no value that Python knows"):
        read(tmp_path / "a.parquet", input_column="at")


def test_an_input_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no rows"):
        read(write(tmp_path / "a.jsonl"))
    with pytest.raises(ConfigError, match="holds no rows"):
        passages(config(tmp_path, ""))


def test_a_held_out_instruction_is_never_trained_on() -> None:
    examples = [Example(f"Ask {number % 5}", f"Say {number}") for number in range(20)]
    train, held_out = split(examples, 3)
    assert held_out == examples[:3]
    assert {example.before for example in train} == {"Ask 3", "Ask 4"}


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out = 4: of 4 usable rows none is left"):
        split([Example(f"Ask {number}", "Say") for number in range(4)], 4)


# ---- passages


def config(folder: Path, *rows: Any, **settings: Any) -> DistillConfig:
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    return DistillConfig(**{"input": str(folder / "rows.jsonl"), "output": str(folder / "out"), **settings})


def passages(given: DistillConfig) -> list[Passage]:
    return list(read_passages(given, Storage()))


def test_a_piece_knows_its_row_and_what_the_row_says_of_it(tmp_path: Path) -> None:
    assert passages(config(tmp_path, {"text": PROSE}, {"text": "Short."}))[1] == Passage("rows.jsonl, row 1", "Short.")
    pairs = config(tmp_path, {"text": PROSE, "compressed": "met"}, teacher="pairs")
    assert passages(pairs) == [Passage("rows.jsonl, row 0", PROSE, "met")]
    (labels,) = passages(config(tmp_path, {"words": ["one", " two"], "labels": [1, 0]}, teacher="labels"))
    assert (labels.text, labels.given.scores) == ("one two", (1, 0))
    (answers,) = passages(config(tmp_path, {"text": "one two", "answers": ["two"]}, teacher="answers"))
    assert (answers.text, answers.given.scores) == ("one two", (0, 1))


def test_parquet_is_read_as_well(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one two", "three"], "other": [1, 2]}), tmp_path / "rows.parquet")
    given = DistillConfig(input=str(tmp_path / "rows.parquet"), output=str(tmp_path / "out"))
    assert [passage.text for passage in passages(given)] == ["one two", "three"]


def test_a_limit_reads_the_first_rows(tmp_path: Path) -> None:
    assert len(passages(config(tmp_path, *[{"text": "a"}] * 5, limit=3))) == 3


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
        ({"words": [" "], "labels": [1]}, {"teacher": "labels"}, r"row 1: words is empty"),
    ],
)
def test_a_text_that_cannot_be_used_is_named(
    tmp_path: Path, row: Any, settings: dict[str, Any], complaint: str
) -> None:
    good = {"text": "x", "compressed": "x", "words": ["x"], "labels": [1]}
    with pytest.raises(ConfigError, match=complaint):
        passages(config(tmp_path, good, row, **settings))
