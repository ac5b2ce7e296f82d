"""Which rows are measured; what is wrong with one is said with file, row and field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.input.shards import parsed
from cluster.storage.storage import Storage
from jobs.evaluate import load_sets
from jobs.evaluation.rows import EvalRow, fewer_strings, gold_strings
from jobs.evaluation.settings import EvalConfig
from lingua.errors import ConfigError
from tests.jobs.evaluation.samples import ROW, row, rows_file, unified


def load(path: Path, **settings: int) -> list[EvalRow]:
    return load_sets(EvalConfig(data={"mine": str(path)}, output="memory://out", **settings), Storage())["mine"]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return rows_file(tmp_path, [row(f"r{number}") for number in range(10)])


def test_a_set_has_the_users_name_and_keeps_its_own(ten: Path) -> None:
    first = load(ten)[0]
    assert (first.set, first.context) == ("cities", ROW.context)


def test_offset_and_limit_choose_in_order(ten: Path) -> None:
    assert [one.id for one in load(ten, limit=3, offset=2)] == ["r2", "r3", "r4"]


def test_a_seed_shuffles_before_it_chooses_and_always_the_same_way(ten: Path) -> None:
    ids = [[one.id for one in load(ten, limit=4, seed=seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]
    rest = [one.id for one in load(ten, offset=4, seed=1)]
    assert sorted(ids[0] + rest) == sorted(f"r{number}" for number in range(10))


def test_a_row_survives_its_file() -> None:
    strange = row("ü\u2028", context=("🙂\n", ""), meta={"set": "x", "n": 1})
    assert parsed(EvalRow, strange.to_json().encode(), "a row") == strange


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": "text"}, None),
        ({"context": [1]}, r"field 'context' must be a list of strings"),
        ({"question": 3}, r"field 'question' must be a string"),
        ({"answers": None}, r"record 2.*'answers'|'answers'.*missing"),
        ({"context": [""]}, r"row 'b': field 'context' is empty"),
        ({"answers": [" "]}, r"row 'b': field 'answers' is empty"),
        ({"gold": {"doc_index": "x"}}, r"row 'b': field 'gold' does not tell strings"),
        ({"gold": {"spans": [3]}}, r"row 'b': field 'gold' does not tell strings"),
        ({"id": "a"}, r"row 'a': field 'id': two rows have this id"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    path = rows_file(tmp_path, [row("a")])
    with path.open("a") as stream:
        stream.write(json.dumps({**unified(row("b")), **change}) + "\n")
    if message is None:
        assert load(path)[1].context == ("text",)
        return
    with pytest.raises(ConfigError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_no_rows_left_is_an_error(ten: Path) -> None:
    with pytest.raises(ConfigError, match="no rows are left"):
        load(ten, offset=10)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl"):
        load(tmp_path / "nowhere.jsonl")


def test_fewer_strings_keep_the_evidence_and_know_where_it_stands() -> None:
    gold = {
        "doc_index": 4,
        "doc_indices": [1, 4],
        "relevant_turns": [[3, 4]],
        "spans": [{"chunk_index": 3}],
        "final": 7,
    }
    row = EvalRow("r", "s", "", tuple("abcdef"), "?", ("x",), gold)
    short = fewer_strings(row, 4)
    assert short.context == ("a", "b", "d", "e")
    assert short.gold == {"strings": [1, 2, 3], "final": 7}
    assert gold_strings(short.gold) == {1, 2, 3}
    assert fewer_strings(row, 1).context == ("b", "d", "e")
    assert fewer_strings(row, 6) is row
    unknown = fewer_strings(replace(row, gold={"doc_index": -1}), 2)
    assert (unknown.context, unknown.gold) == (("a", "b"), {"strings": []})
