"""Parquet files of one run: their columns become one schema where nothing is lost by it, and are told where it is."""

from __future__ import annotations

import decimal
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import SourceUnusable
from cluster.input import parquet, unify
from cluster.input.inputs import list_inputs
from cluster.input.parquet import Footer, open_parquet, read_footers
from cluster.input.schema import UNPLANNED
from cluster.input.shards import Source
from cluster.input.unify import common_schema, with_int96_unit
from cluster.output.prepare import make_plan
from cluster.output.verify import verify
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.input.test_types import DICTIONARY, TEXTS, US, extension, through
from tests.cluster.jobs_for_tests import DIGEST, job, run, write_lines


def strings(kind: pa.DataType) -> pa.Array:
    return pa.array(["x", None]).cast(kind)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (pa.nulls(2), strings(pa.string()), pa.string()),
        (strings(pa.large_string()), strings(pa.string()), pa.large_string()),
        (strings(DICTIONARY), strings(pa.string()), pa.string()),
        (strings(DICTIONARY), strings(pa.large_string()), pa.large_string()),
        (strings(pa.string_view()), strings(pa.string()), pa.string()),
        (extension(pa.json_(pa.string()), ["1", None]), strings(pa.string()), pa.string()),
        (strings(DICTIONARY), strings(DICTIONARY), DICTIONARY),
        (pa.array([1, None], pa.int32()), pa.array([2**40, 2]), pa.int64()),
        (pa.array([255, None], pa.uint8()), pa.array([-1, 2], pa.int8()), pa.int16()),
        (pa.array([0.5, None], pa.float32()), pa.array([0.1, 2]), pa.float64()),
        (pa.array([1, 2**53]), pa.array([0.5, None]), pa.float64()),
        (pa.array([0.5, None]), pa.array([None, None], pa.string()), pa.float64()),
        (pa.array([[1], None]), pa.nulls(2, pa.list_(pa.string())), pa.list_(pa.int64())),
        (pa.array([{"a": 1}, None]), pa.nulls(2, pa.string()), pa.struct([("a", pa.int64())])),
        (pa.array([1, None], US), pa.array([1, 2], pa.timestamp("ms")), US),
        (pa.array([1, None], US), pa.array([1, 2], pa.timestamp("ns")), pa.timestamp("ns")),
        (pa.array([[1], None]), pa.array([[], []], pa.list_(pa.null())), pa.list_(pa.int64())),
        (
            pa.array([{"a": 1, "b": None}, None]),
            pa.array([{"a": 2, "c": "x"}, {"a": 3, "c": None}]),
            pa.struct([("a", pa.int64()), ("b", pa.null()), ("c", pa.string())]),
        ),
        (
            pa.array([decimal.Decimal("1.5"), None], pa.decimal128(5, 1)),
            pa.array([decimal.Decimal("2.25"), None], pa.decimal128(4, 2)),
            pa.decimal128(6, 2),
        ),
        (pa.array([b"x", None]), pa.array([b"y", None], pa.large_binary()), pa.large_binary()),
        (pa.array([1, None], pa.duration("us")), pa.array([2, None], pa.duration("ns")), pa.duration("ns")),
    ],
    ids=str,
)
def test_columns_of_like_types_become_one_without_loss(
    tmp_path: Path, one: pa.Array, other: pa.Array, wanted: pa.DataType
) -> None:
    texts = pa.array(TEXTS[:2])
    for first, second, folder in ((one, other, tmp_path / "a"), (other, one, tmp_path / "b")):
        folder.mkdir()
        tables = {name: pa.table({"text": texts, "x": x}) for name, x in (("a.parquet", first), ("b.parquet", second))}
        found = through(folder, tables)["x"]
        if not pa.types.is_struct(wanted):
            assert found.type == wanted
        values = [*first.to_pylist(), *second.to_pylist()]
        assert [_without(value) for value in found.to_pylist()] == [_without(value) for value in values]


def _without(value: Any) -> Any:
    """Absent fields of a struct are null in Arrow."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, 2]), pa.array(["x", "y"])),
        (pa.array([2**53 + 1, 2]), pa.array([0.5, 1])),
        (pa.array([10**16, 2], US), pa.array([1, 2], pa.timestamp("ns"))),
        (pa.array([1, 2], US), pa.array([1, 2], pa.timestamp("us", "UTC"))),
        (pa.array([b"x", b"y"]), pa.array(["x", "y"])),
        (pa.array([[1], [2]]), pa.array([["x"], ["y"]])),
        (pa.array([2**63, 1], pa.uint64()), pa.array([-1, 2])),
        (pa.array([2**60, 2], pa.duration("us")), pa.array([1, 2], pa.duration("ns"))),
        (pa.array([2**31 - 1, 2], pa.date32()), pa.array(["x", "y"])),
        (pa.array([2**60, 2], pa.timestamp("ms")), pa.array(["x", "y"])),
        (pa.array([0.5, 2], pa.float16()), pa.array(["x", "y"])),
    ],
    ids=str,
)
def test_columns_that_would_lose_something_are_told_with_file_and_types(
    tmp_path: Path, one: pa.Array, other: pa.Array
) -> None:
    for name, column in (("a.parquet", one), ("b.parquet", other)):
        pq.write_table(pa.table({"text": TEXTS[:2], "x": column}), tmp_path / name)
    with pytest.raises(SourceUnusable, match=r"b\.parquet: column 'x' is .*, but .* in .*a\.parquet"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)


def test_a_date_that_python_does_not_hold_stands_beside_a_column_of_nulls(tmp_path: Path) -> None:
    ends = {"d": pa.array([-(2**31), 2**31 - 1], pa.date32()), "t": pa.array([-(2**60), 2**60], pa.timestamp("ms"))}
    nothing = {name: pa.nulls(2, pa.string()) for name in ends}
    tables = {f"{name}.parquet": pa.table({"text": TEXTS[:2], **held}) for name, held in (("a", ends), ("b", nothing))}
    found = through(tmp_path, tables)
    assert found.slice(0, 2).select(list(ends)).equals(pa.table(ends))


def test_files_without_rows_and_columns_without_values_decide_nothing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS[:2], "n": [1, 2], "note": ["a", None]})
    (tmp_path / "in").mkdir()
    frame.to_parquet(tmp_path / "in" / "b.parquet")
    frame.iloc[:0].astype(object).to_parquet(tmp_path / "in" / "a.parquet")
    pd.DataFrame({"text": [], "n": [], "other": []}).to_parquet(tmp_path / "in" / "c.parquet")
    frame.assign(note=[None, None]).to_parquet(tmp_path / "in" / "d.parquet")
    frame.assign(note=[float("nan")] * 2).to_parquet(tmp_path / "in" / "e.parquet")
    run(job(tmp_path / "in", tmp_path / "out"))
    found = pd.concat([pd.read_parquet(part) for part in sorted((tmp_path / "out").glob("part-*"))])
    assert found["n"].tolist() == [1, 2] * 3
    assert found["note"].fillna("-").tolist() == ["a", "-", "-", "-", "-", "-"]


def test_a_column_that_a_file_lacks_is_null_there_but_a_mapped_one_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a b"], "n": pa.array([1])}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["c d"]}), tmp_path / "b.parquet")
    run(job([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["n"].to_pylist() == [1, None]
    pq.write_table(pa.table({"n": [2]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match=r"c\.parquet has no column 'text', which is in other files and mapped"):
        make_plan(job([tmp_path / "a.parquet", tmp_path / "c.parquet"], tmp_path / "other"), DIGEST)


@pytest.mark.parametrize("kinds", [(pa.int32(), pa.int64()), (pa.int64(), pa.string())], ids=["widen", "nothing"])
def test_uniting_schemas_costs_what_the_columns_are_and_not_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[pa.DataType, pa.DataType]
) -> None:
    def work(count: int) -> tuple[int, int]:
        paths = [tmp_path / f"{count}-{name}.parquet" for name in "ab"]
        for path, kind, values in zip(paths, kinds, ([1], [None]), strict=True):
            pq.write_table(pa.table({f"c{n}": pa.array(values, kind) for n in range(count)}), path)
        calls = opened = 0
        whole = unify._unite

        def counted(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
            nonlocal calls
            calls += 1
            return whole(one, other)

        def again(source: Source, storage: Storage) -> pq.ParquetFile:
            nonlocal opened
            opened += 1
            return open_parquet(source, storage)

        with monkeypatch.context() as patch:
            patch.setattr(unify, "_unite", counted)
            patch.setattr(unify, "open_parquet", again)
            schema = common_schema(_footers(paths), Storage())
        assert set(schema.types) == {pa.int64()}
        return calls, opened

    (calls, opened), (twice, again) = work(200), work(400)
    assert (twice, again) == (2 * calls, opened)
    assert opened <= 2


def test_a_column_without_values_is_known_without_statistics(tmp_path: Path) -> None:
    for name, column in (("a", pa.array([1, None])), ("b", pa.nulls(2, pa.string()))):
        pq.write_table(pa.table({"text": TEXTS[:2], "x": column}), tmp_path / f"{name}.parquet", write_statistics=False)
    run(job([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["x"].to_pylist() == [1, None, None, None]


def test_dictionaries_inside_others_do_not_keep_a_column_of_nulls_from_being_known(tmp_path: Path) -> None:
    nested = pa.array([{"a": None}, {"a": "x"}], pa.struct([("a", DICTIONARY)]))
    nothing = pa.nulls(2, nested.type)
    for name, column in (("a", pa.array([1, None])), ("b", nothing), ("c", nested)):
        table = pa.table({"text": TEXTS[:2], "x": column})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=1)
    run(job([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["x"].to_pylist() == [1, None, None, None]
    with pytest.raises(SourceUnusable, match=r"c\.parquet: column 'x' is struct"):
        make_plan(job([tmp_path / "a.parquet", tmp_path / "c.parquet"], tmp_path / "other"), DIGEST)


def test_a_damaged_page_of_a_column_of_two_types_is_told_with_file_and_column(tmp_path: Path) -> None:
    columns = {"a": pa.array(range(50)), "b": pa.array([None, *map(str, range(49))])}
    for name, column in columns.items():
        table = pa.table({"text": ["a b"] * 50, "x": column})
        pq.write_table(table, tmp_path / f"{name}.parquet", write_statistics=False, compression="none")
    content = (tmp_path / "b.parquet").read_bytes()
    start = pq.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0).column(1).dictionary_page_offset
    (tmp_path / "b.parquet").write_bytes(content[:start] + b"\xff" * 10 + content[start + 10 :])
    with pytest.raises(SourceUnusable, match=r"b\.parquet: column 'x' is string, but int64 in .*a\.parquet"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)


def test_statistics_of_a_field_are_not_those_of_a_column_whose_name_has_a_dot(tmp_path: Path) -> None:
    columns: dict[str, dict[str, pa.Array]] = {
        "a": {"a.b": pa.array([1, 2]), "a": pa.array([7, 8])},
        "b": {"a.b": pa.array([0.5, 2.5]), "a": pa.nulls(2, pa.struct([("b", pa.string())]))},
        "c": {"a": pa.nulls(2, pa.struct([("b", pa.string())]))},
    }
    tables = {f"{name}.parquet": pa.table({"text": TEXTS[:2], **held}) for name, held in columns.items()}
    found = through(tmp_path, tables)
    assert found["a.b"].to_pylist() == [1.0, 2.0, 0.5, 2.5, None, None]
    assert found["a"].to_pylist() == [7, 8, None, None, None, None]


def _footers(paths: list[Path]) -> list[Footer]:
    return with_int96_unit(
        read_footers(list_inputs([str(path) for path in paths], Storage()).sources, Storage()), Storage()
    )


# ---- columns in the names of folders


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("s3://bucket/lang=en/year=2024/part-0.parquet", {"lang": "en", "year": "2024"}),
        ("/data/run=5/corpus/part-0.parquet", {}),
        ("/data/lang=pt%2FBR/day=__HIVE_DEFAULT_PARTITION__/a.jsonl", {"lang": "pt/BR", "day": None}),
        ("/data/a+b=c/=x/1=2/a=b.parquet", {}),
        ("k=v/rows.jsonl", {"k": "v"}),
        ("/data/a=/b=%FF/c=%fe%2F/rows.jsonl", {"a": "", "b": "%FF", "c": "%fe%2F"}),
    ],
)
def test_folders_right_above_a_file_hold_columns(path: str, found: dict[str, str | None]) -> None:
    assert Source(path, 1, "v", "parquet").folders == found


def test_columns_that_only_folders_hold_are_not_lost(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS, "lang": ["en", "de", "en", None], "year": ["2024", "2024", "2023", "2024"]})
    frame.to_parquet(tmp_path / "in", partition_cols=["lang", "year"])
    write_lines(tmp_path / "in" / "lang=en" / "more.jsonl", [{"text": "x y"}, {"text": "z", "lang": "own"}])
    run(job(tmp_path / "in", tmp_path / "out"))
    found = pq.read_table(tmp_path / "out").sort_by("text").to_pylist()
    assert [(row["text"], row["lang"], row["year"]) for row in found] == [
        ("a b c d", "en", "2024"),
        ("e f", "de", "2024"),
        ("g h i", "en", "2023"),
        ("j", None, "2024"),
        ("x y", "en", None),
        ("z", "own", None),
    ]
    assert verify(str(tmp_path / "out")).problems == []
    lines = job(tmp_path / "in" / "lang=en" / "more.jsonl", tmp_path / "lines", output_format="jsonl")
    run(lines)
    (part,) = (tmp_path / "lines").glob("part-*")
    assert [json.loads(line)["lang"] for line in part.read_text().splitlines()] == ["en", "own"]
    assert verify(lines.output).problems == []


def test_a_column_of_the_file_wins_over_its_folder_and_gives_the_type_to_others(tmp_path: Path) -> None:
    for year in (1, 2):
        (tmp_path / "in" / f"year={year}").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"], "year": [77]}), tmp_path / "in" / "year=1" / "a.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "in" / "year=2" / "b.parquet")
    run(job(tmp_path / "in", tmp_path / "out"))
    assert pq.read_table(tmp_path / "out")["year"].to_pylist() == [77, 2]
    (tmp_path / "in" / "year=2").rename(tmp_path / "in" / "year=two")
    with pytest.raises(SourceUnusable, match=r"b\.parquet: the folder says year='two', but column 'year' is int64"):
        make_plan(job(tmp_path / "in", tmp_path / "other"), DIGEST)


@pytest.mark.parametrize("held", [pa.nulls(1), pa.array([], pa.float64())], ids=["null", "no rows"])
def test_a_column_that_holds_nothing_does_not_type_the_folders_of_other_files(tmp_path: Path, held: pa.Array) -> None:
    for value in ("en", "de"):
        (tmp_path / "in" / f"lang={value}").mkdir(parents=True)
    empty = pa.table({"text": pa.array(TEXTS[: len(held)], pa.string()), "lang": held})
    pq.write_table(empty, tmp_path / "in" / "lang=de" / "a.parquet")
    pq.write_table(pa.table({"text": ["a b"]}), tmp_path / "in" / "lang=en" / "b.parquet")
    run(job(tmp_path / "in", tmp_path / "out"))
    parts = [pq.read_table(part) for part in sorted((tmp_path / "out").glob("part-*"))]
    assert sorted(pa.concat_tables(parts)["lang"].to_pylist(), key=str) == [*([None] * len(held)), "en"]


def test_a_parquet_file_without_rows_decides_nothing_about_json_lines(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "id": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    rows = write_lines(tmp_path / "b.jsonl", [{"text": "a", "id": 5}])
    run(job([tmp_path / "a.parquet", rows], tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    assert (table["id"].to_pylist(), table[UNPLANNED].to_pylist()) == ([5], [None])


def test_a_column_deeper_than_readers_take_is_told_in_words(tmp_path: Path) -> None:
    kind: pa.DataType = pa.int64()
    for _ in range(110):
        kind = pa.struct([("a", kind)])
    pq.write_table(pa.table({"text": ["a"], "x": pa.nulls(1, kind)}), tmp_path / "a.parquet")
    with pytest.raises(SourceUnusable, match=r"a\.parquet: a column nests deeper than the 100 levels"):
        make_plan(job(tmp_path / "a.parquet", tmp_path / "out"), DIGEST)


def test_rows_of_json_lines_beside_parquet_lose_nothing(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a"],
            "day": pa.array([0], pa.date32()),
            "kind": pa.array(["x"]).dictionary_encode(),
            "doc": extension(pa.json_(pa.string()), ["1"]),
            "small": pa.array([1], pa.int8()),
            "half": pa.array([0.5], pa.float32()),
            "price": pa.array([decimal.Decimal("1.50")]),
            "pairs": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
        }
    )
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    fits: dict[str, Any] = {"text": "b", "day": "2024-05-06", "kind": "y", "doc": "[]", "small": -128, "half": 0.25}
    odd: dict[str, Any] = {"text": "c", "day": "May", "kind": 1, "doc": {}, "small": 128, "half": 0.1, "price": "?"}
    odd["pairs"] = {"k": 1}
    write_lines(tmp_path / "in" / "b.jsonl", [fits, odd])
    run(job(tmp_path / "in", tmp_path / "out"))
    _, second, third = pq.read_table(tmp_path / "out").to_pylist()
    assert {name: str(second[name]) for name in fits} == {name: str(value) for name, value in fits.items()}
    assert {"text": third["text"], **json.loads(third[UNPLANNED])} == odd
    assert verify(str(tmp_path / "out")).problems == []


def test_a_corpus_of_no_rows_is_an_error_and_no_complete_run(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match=r"no rows in .*none\.parquet: nothing to compress"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)


def test_one_file_below_folders_of_different_values_holds_different_rows(tmp_path: Path) -> None:
    for value in ("1", "2"):
        (tmp_path / "in" / f"k={value}").mkdir(parents=True)
    write_lines(tmp_path / "in" / "k=1" / "a.jsonl", [{"text": "a b"}])
    (tmp_path / "in" / "k=2" / "a.jsonl").hardlink_to(tmp_path / "in" / "k=1" / "a.jsonl")
    run(job(tmp_path / "in", tmp_path / "out"))
    rows = [row for part in sorted((tmp_path / "out").glob("part-*")) for row in pq.read_table(part).to_pylist()]
    assert [(row["text"], row["k"]) for row in rows] == [("a b", "1"), ("a b", "2")]


def test_lists_of_few_strings_are_planned_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = pa.array(["one", "two"] * 200_000)
    lists = pa.ListArray.from_arrays(pa.array(range(0, 400_001, 20_000), pa.int32()), words)
    pq.write_table(pa.table({"text": ["a b"] * 20, "l": lists}), tmp_path / "lists.parquet")
    elements = list[int]()
    measured = parquet.row_bytes

    def counted(batch: pa.RecordBatch) -> Any:
        elements.append(sum(len(column.flatten()) for column in batch.columns if pa.types.is_list(column.type)))
        return measured(batch)

    monkeypatch.setattr(parquet, "row_bytes", counted)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 1 << 18)
    make_plan(job(tmp_path, tmp_path / "out"), DIGEST)
    assert elements
    assert max(elements) <= 4 * (1 << 18) // 4


def test_lists_of_fixed_size_weigh_what_they_hold_when_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pa.nulls(1000, pa.list_(pa.float32(), 10_000))
    pairs = pa.StructArray.from_arrays([vectors], names=["v"])
    pq.write_table(pa.table({"text": ["a b"] * 1000, "v": vectors, "s": pairs}), tmp_path / "a.parquet")
    (footer,) = _footers([tmp_path / "a.parquet"])
    assert sum(group.weight for group in footer.groups) >= 2 * 1000 * 10_000 * 4
    sizes = list[int]()
    measured = parquet.row_bytes
    monkeypatch.setattr(parquet, "row_bytes", lambda batch: sizes.append(batch.nbytes) or measured(batch))
    run(job(tmp_path, tmp_path / "out"))
    assert 0 < max(sizes) <= parquet.BATCH_BYTES


def test_a_place_that_a_damaged_dictionary_does_not_have_weighs_something() -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0, 228, None]), pa.array(["a b"]), safe=False)
    assert parquet.row_bytes(pa.record_batch({"text": values})).shape == (3,)
