"""Columns and schema of a run, and parts that other libraries read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import SourceUnusable
from cluster.input.columns import RESULTS
from cluster.input.schema import UNPLANNED, unplanned_field
from cluster.output.ledger import Ledger
from cluster.output.prepare import make_plan
from cluster.output.records import Statistics
from cluster.output.verify import verify
from cluster.report.statistics import RunReport
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import DIGEST, job, rejects, run, write_lines


def test_strings_among_numbers_stay_as_they_are_and_numbers_get_their_digits(tmp_path: Path) -> None:
    rows = [
        {"id": "doc-7", "text": "a b"},
        {"id": 8, "text": "c d"},
        {"id": 2**70, "text": "e"},
        {"id": 0.5, "text": 7},
    ]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == ["doc-7", "8", str(2**70)]
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == [(3, "wrong_type")]
    assert verify(str(tmp_path / "out")).problems == []


def test_keys_of_rows_that_are_maps_themselves_go_to_the_unplanned_column(tmp_path: Path) -> None:
    rows = [{"text": "a b", "often": n, f"h-{n}": "x"} for n in range(150)]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    assert table.schema.names == ["text", "often", UNPLANNED, *RESULTS.names]
    assert json.loads(table[UNPLANNED][77].as_py()) == {"h-77": "x"}


def test_what_the_sample_did_not_show_survives_in_a_column_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.output.prepare.SAMPLED_BYTES", 1)
    rows: list[dict[str, Any]] = [
        {"text": "a b c", "n": 1, "o": {"k": 1}, "s": "x"},
        {"text": "a", "n": 1.5},
        {"text": "a", "o": {"j": 1, "k": 2}},
        {"text": "b", "n": True},
        {"text": "c", "n": 2**80, "new": [None, {"a.b": ""}], "": 0, "rate": 1},
        {"text": "d", "s": "\ud800", "n": 2},
        {"text": "e", "o": {"k": None}, "later": None, "n": 3},
        {"text": 5},
    ]
    plan = run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    assert table["n"].to_pylist() == [1, None, None, None, None, 2, 3]
    assert table["o"].to_pylist() == [{"k": 1}, None, None, None, None, None, {"k": None}]
    kept = [None if text is None else json.loads(text) for text in table[UNPLANNED].to_pylist()]
    assert kept == [
        None,
        {"n": 1.5},
        {"o": {"j": 1, "k": 2}},
        {"n": True},
        {"n": 2**80, "new": [None, {"a.b": ""}], "": 0, "rate": 1},
        {"s": "\ud800"},
        None,
    ]
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == [(7, "wrong_type")]
    assert verify(str(tmp_path / "out")).problems == []
    total = Statistics.over(Ledger(str(tmp_path / "out")).records())
    assert total.unplanned == total.as_json()["unplanned"] == 5
    report = RunReport(len(plan.shards), total, total, 1.0)
    assert "unplanned  5 rows with values that the sample did not show" in report.summary()


def test_what_an_earlier_run_did_not_foresee_is_not_counted_again(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("text", pa.string()), unplanned_field("")])
    pq.write_table(pa.table([["a b c", "d e f"], ['{"n": 1}', None]], schema=schema), tmp_path / "rows.parquet")
    run(job(tmp_path / "rows.parquet", tmp_path / "out"))
    assert Statistics.over(Ledger(str(tmp_path / "out")).records()).unplanned == 0


def test_values_without_a_common_type_become_json_text(tmp_path: Path) -> None:
    rows = [{"text": "a b c", "facts": ["x", 1]}, {"text": "d e f", "facts": None}, {"text": "g", "facts": {}}]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["facts"].to_pylist() == ['["x", 1]', None, "{}"]


def test_a_value_nested_deeper_than_readers_take_is_text_from_there_on(tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(60):
        deep = [{"a": deep}]
    rows = [{"text": "a b", "x": deep, "y": 1}, {"text": "c d", "x": [{"a": None}], "y": 2}]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out"))
    first, second = pq.read_table(tmp_path / "out").to_pylist()
    assert (first["y"], second["x"]) == (1, [{"a": None}])
    found, texts = first["x"], 0
    while found != "end":
        if isinstance(found, str):
            found, texts = json.loads(found), texts + 1
        found = found[0] if isinstance(found, list) else found["a"]
    assert texts == 1
    assert verify(str(tmp_path / "out")).problems == []


@pytest.mark.parametrize("levels", [39, 130, 399, 5000])
@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_a_deep_row_is_kept_or_rejected_and_its_neighbours_are_read(
    tmp_path: Path, levels: int, output_format: str
) -> None:
    lines = ['{"text": "a b"}', '{"text": "c d", "x": ' + "[" * levels + "]" * levels + "}", '{"text": "e"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    run(job(tmp_path / "rows.jsonl", tmp_path / "out", output_format=output_format))
    wanted = [(1, "too_deep")] if levels > 400 else []
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == wanted
    assert verify(str(tmp_path / "out")).problems == []


def test_json_lines_to_json_lines_keep_every_object_as_it_is(tmp_path: Path) -> None:
    rows = [
        {"text": "a b c", "x": [1, "y", {"z": None}]},
        {"x": 2.5, "text": "d", "n": float("inf")},
        {"text": "é\ud800"},
    ]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out", output_format="jsonl"))
    (part,) = (tmp_path / "out").glob("part-*.jsonl")
    found = [json.loads(line) for line in part.read_text().splitlines()]
    assert [{key: row[key] for key in row if key not in RESULTS.names} for row in found] == rows[:2]
    assert [list(row)[-len(RESULTS.names) :] for row in found] == [RESULTS.names] * 2
    assert [row["reason"] for row in rejects(tmp_path / "out")] == ["invalid_unicode"]


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({"body": "x"}, {}, "no column 'text', 'instruction', 'context' or 'question'.*its columns: body"),
        ({"text": "x", "question": "y"}, {}, "has a column 'text' and 'question'"),
        ({"text": "x"}, {"text_column": "body"}, r"rows\.jsonl: the input has no column 'body'; its columns: text"),
        ({"text": "x"}, {"text_column": "txt"}, r"no column 'txt'; did you mean text\? its columns: text"),
        ({"text": "x"}, {"id_column": "id"}, "no column 'id'"),
        ({"text": 1}, {}, "column 'text' holds int64; it must hold strings"),
        ({"text": [{"role": "user", "content": "x"}]}, {}, "must hold strings; a conversation is named with"),
        ({"context": [1]}, {}, "must hold strings or lists of strings"),
        ({"context": [{"title": "t", "text": "x"}]}, {}, "make one string of each object first"),
        ({"text": "x", UNPLANNED: 1}, {}, f"{UNPLANNED} collide with input columns; give --output-prefix"),
        ({"text": "x", "rate": 1}, {}, "rate collide with input columns; give --output-prefix"),
    ],
)
def test_columns_that_cannot_be_are_told_before_the_run(
    tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [row])
    with pytest.raises(ConfigError, match=message):
        make_plan(job(path, tmp_path / "out", **settings), DIGEST)
    assert not (tmp_path / "out").exists()


def test_a_prefix_makes_room_for_colliding_columns(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "a b c d", "rate": 7}])
    run(job(path, tmp_path / "out", output_prefix="llm_"))
    (row,) = pq.read_table(tmp_path / "out").to_pylist()
    assert (row["rate"], row["llm_rate"], row["llm_compressed_prompt"]) == (7, 0.5, "a c")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": 1}, "null_text"),
        ({"id": 1, "instruction": None, "context": None, "question": None}, "null_text"),
        ({"id": None, "question": "q"}, "missing_id"),
        ({"question": "q"}, "missing_id"),
        ({"id": 1, "context": ["a", 1]}, "wrong_type"),
        ({"id": 1, "context": [{"title": "t", "text": "x"}]}, "wrong_type"),
        ({"id": 1, "context": 5}, "wrong_type"),
        ({"id": 1, "question": ["q"]}, "wrong_type"),
    ],
)
def test_rows_without_a_prompt_are_rejected_with_their_reason(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {"id": 1, "instruction": "i", "context": ["a b", "c"], "question": "q"}
    path = write_lines(tmp_path / "rows.jsonl", [good, row, {"id": 1, "context": "one string", "question": None}])
    run(job(path, tmp_path / "out", id_column="id", output_format="jsonl"))
    assert [(found["row"], found["reason"]) for found in rejects(tmp_path / "out")] == [(1, reason)]
    (part,) = (tmp_path / "out").glob("part-*")
    assert len(part.read_text().splitlines()) == 2  # equal ids are no error


@pytest.mark.parametrize(
    ("value", "found"),
    [({"a": 1}, "an object"), (["a"], "an array"), (1.5, "a number"), (7, "a number"), (True, "a boolean")],
)
def test_a_value_of_another_type_is_called_as_json_calls_it(tmp_path: Path, value: Any, found: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "a b"}, {"text": value}])
    run(job(path, tmp_path / "out"))
    (reject,) = rejects(tmp_path / "out")
    assert reject["detail"] == f"column 'text' must hold a string, not {found}"


def test_parquet_files_whose_columns_cannot_be_one_are_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"n": [2], "text": ["b"]}), tmp_path / "in" / "b.parquet")
    run(job(tmp_path / "in", tmp_path / "out"))
    assert sorted(pq.read_table(tmp_path / "out")["n"].to_pylist()) == [1, 2]
    pq.write_table(pa.table({"text": ["a"], "n": ["1"]}), tmp_path / "in" / "c.parquet")
    with pytest.raises(SourceUnusable, match=r"c\.parquet: column 'n' is string, but int64 in .*a\.parquet, and no"):
        run(job(tmp_path / "in", tmp_path / "other"))


def test_a_json_array_and_an_input_without_rows_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(' [{"text": "a"}]')
    with pytest.raises(SourceUnusable, match="holds one JSON array"):
        make_plan(job(tmp_path / "rows.json", tmp_path / "out"), DIGEST)
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    with pytest.raises(ConfigError, match="no rows in"):
        make_plan(job(tmp_path / "empty.jsonl", tmp_path / "out"), DIGEST)


RICH = pa.table(
    {
        "text": pa.array(["a b c d", "", None, "e f g"]),
        "moment": pa.array([1, None, 3, 4], pa.timestamp("ns", "UTC")),
        "kind": pa.array(["x", "y", None, "x"]).dictionary_encode(),
        "nested": pa.array([{"a": [{"b": 1.5}]}, None, {"a": []}, {"a": None}]),
        "raw": pa.array([b"\xff", b"", None, b"x"]),
        "amount": pa.array([1, 2, 3, 4], pa.decimal128(10, 2)),
        "span": pa.array([1, 2, 3, None], pa.duration("ns")),
        "score": pa.array([float("nan"), float("inf"), None, 0.5], pa.float32()),
        "large": pa.array(["p", "q", "r", "s"], pa.large_string()),
        "pairs": pa.array([[("k", 1)], [], None, [("l", 2)]], pa.map_(pa.string(), pa.int32())),
    }
)


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    table = RICH.replace_schema_metadata({"huggingface": '{"info": {"features": {}}}', "mine": "kept"})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3)
    run(job(tmp_path / "rows.parquet", tmp_path / "out"))
    assert verify(str(tmp_path / "out")).problems == []
    return tmp_path / "out"


def test_columns_of_every_type_pass_through_parquet_unchanged(rich: Path) -> None:
    (part,) = rich.glob("part-*")
    found = pq.read_table(part)
    assert found.schema.names == [*RICH.schema.names, *RESULTS.names]
    assert found.schema.types == [*RICH.schema.types, *RESULTS.types]
    assert str(found.select(RICH.schema.names).to_pydict()) == str(RICH.take([0, 1, 3]).to_pydict())
    assert found["compressed_prompt"].to_pylist() == ["a c", "", "e g"]
    assert pq.read_metadata(part).row_group(0).column(0).compression == "ZSTD"


def test_parts_are_read_by_datasets_pandas_and_duckdb(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": f"some words {n} more", "meta": {"n": [n]}} for n in range(300)]
    run(job(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out", shard_size=4096))
    files = str(tmp_path / "out" / "part-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["id"][:] == [row["id"] for row in rows]
    assert loaded[299]["compressed_context"] == ["some 299"]
    frame = pd.read_parquet(tmp_path / "out")
    assert (len(frame), frame["origin_tokens"].dtype, frame["rate"].dtype) == (300, "int64", "float64")
    with duckdb.connect() as database:
        (counted,) = database.execute(
            "select sum(compressed_tokens), count(distinct id) from read_parquet(?)", [files]
        ).fetchall()
    assert counted == (600, 300)


def test_parquet_to_json_lines_says_all_that_json_can(tmp_path: Path) -> None:
    pq.write_table(RICH, tmp_path / "rows.parquet")
    run(job(tmp_path / "rows.parquet", tmp_path / "out", output_format="jsonl"))
    (part,) = (tmp_path / "out").glob("part-*")
    first = json.loads(part.read_text().splitlines()[0])
    assert (first["raw"], first["amount"], first["kind"], first["nested"]) == ("/w==", "1.00", "x", {"a": [{"b": 1.5}]})
    assert first["moment"].startswith("1970-01-01 00:00:00.000000001")
    assert verify(str(tmp_path / "out")).problems == []


def test_json_lines_and_parquet_together_follow_the_parquet_schema(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a b c"], "n": [1]}), tmp_path / "in" / "a.parquet")
    write_lines(tmp_path / "in" / "b.jsonl", [{"text": "d e f", "n": 2, "m": [1]}, {"text": "g", "n": "3"}])
    run(job(tmp_path / "in", tmp_path / "out"))
    table = pq.read_table(tmp_path / "out").sort_by("n")
    assert table["n"].to_pylist() == [1, 2, None]
    assert table["m"].to_pylist() == [None, [1], None]
    assert table[UNPLANNED].to_pylist() == [None, None, '{"n": "3"}']
    run(job(tmp_path / "in", tmp_path / "lines", output_format="jsonl"))
    found = [
        json.loads(line)
        for part in sorted((tmp_path / "lines").glob("part-*"))
        for line in part.read_text().splitlines()
    ]
    assert (found[-1]["text"], found[-1]["n"]) == ("g", "3")
    assert [verify(str(tmp_path / name)).problems for name in ("out", "lines")] == [[], []]


def test_a_null_among_documents_costs_nothing_and_indices_stay_the_inputs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"context": [["a b", None, "c d"]], "question": ["q"]}), tmp_path / "rows.parquet")
    run(job(tmp_path / "rows.parquet", tmp_path / "out"))
    (row,) = pq.read_table(tmp_path / "out").to_pylist()
    assert row["kept_context"] == [0, 1, 2]
    assert row["compressed_context"][1] == ""


def test_real_prompts_go_through_whole(shared_data: Path, tmp_path: Path) -> None:
    inputs = [shared_data / "squad" / "unified.jsonl", shared_data / "longbench_zh" / "multifieldqa_zh.jsonl"]
    run(job(inputs, tmp_path / "out", shard_size=1 << 19, id_column="id", output_format="jsonl"))
    audit = verify(str(tmp_path / "out"))
    assert (audit.problems, audit.rejected) == ([], 0)
    assert audit.rows == sum(path.read_bytes().count(b"\n") for path in inputs)
