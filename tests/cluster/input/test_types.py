"""Columns that pass through: every type of Parquet comes out as it went in, and files of like types are one corpus."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import AbortRun, SourceUnusable
from cluster.input import parquet
from cluster.input.arrow import DATASETS, SPARK
from cluster.input.columns import RESULTS
from cluster.input.reader import printed
from cluster.input.schema import UNPLANNED
from cluster.input.shards import Row, Source, arrow_rows
from cluster.output.parts import ParquetEncoder
from cluster.output.prepare import make_plan
from cluster.output.verify import verify
from cluster.report.dry_run import describe
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import DIGEST, job, rejects, run, write_lines

US = pa.timestamp("us")
DICTIONARY = pa.dictionary(pa.int32(), pa.string())
TEXTS = ["a b c d", "e f", "g h i", "j"]


def through(folder: Path, tables: Mapping[str, pa.Table], writing: Mapping[str, Any] | None = None) -> pa.Table:
    """What comes out of a run over these files, without the results."""
    (folder / "in").mkdir(exist_ok=True)
    for name, table in tables.items():
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "in" / name, **(writing or {}))
    run(job(folder / "in", folder / "out"))
    assert verify(str(folder / "out")).problems == []
    parts = [pq.read_table(part) for part in sorted((folder / "out").glob("part-*"))]
    return pa.concat_tables(parts).drop_columns(RESULTS.names)


def extension(kind: Any, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


EVERY: dict[str, pa.Array] = {
    "ancient": pa.array([-(10**17), 10**17, None, 0], US),
    "far_ms": pa.array([-(10**15), 10**15, None, 0], pa.timestamp("ms", "Europe/Berlin")),
    "fine": pa.array([1, -1, None, 2**62], pa.timestamp("ns", "UTC")),
    "day": pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(1970, 1, 1)]),
    "time": pa.array([1, 2, None, 86_399_999_999_999], pa.time64("ns")),
    "span": pa.array([1, -1, None, 2**62], pa.duration("us")),
    "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-99999999.99"), None, decimal.Decimal(0)]),
    "huge": pa.array([decimal.Decimal(10**50), None, None, decimal.Decimal(1)], pa.decimal256(60, 2)),
    "unsigned": pa.array([2**64 - 1, 0, None, 1], pa.uint64()),
    "small": pa.array([-128, 127, None, 0], pa.int8()),
    "half": pa.array(np.array([0.5, np.inf, 0, np.nan], np.float16)),
    "kind": pa.array(["x", None, "y", "x"]).dictionary_encode(),
    "ordered": pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1], pa.int8()), ["lo", "hi"], ordered=True),
    "raw": pa.array([b"\xff\x00", b"", None, b"x"]),
    "fixed": pa.array([b"abcd", None, b"\x00\x00\x00\x00", b"wxyz"], pa.binary(4)),
    "large": pa.array(["p", "", None, "é"], pa.large_string()),
    "view": pa.array(["p", "", None, "é" * 40], pa.string_view()),
    "lists": pa.array([[[1], None], [], None, [[]]], pa.list_(pa.list_(pa.int16()))),
    "large_lists": pa.array([["a"], [], None, [None]], pa.large_list(pa.string())),
    "pair": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
    "nested": pa.array([{"a": [{"b": 1.5}]}, None, {"a": []}, {"a": None}]),
    "map": pa.array([[("k", [1])], [], None, [("l", None)]], pa.map_(pa.string(), pa.list_(pa.int32()))),
    "json": extension(pa.json_(pa.string()), ['{"a": 1}', None, "[]", '"x"']),
    "uuid": extension(pa.uuid(), [uuid.uuid4().bytes, None, uuid.uuid4().bytes, b"\0" * 16]),
    "flag": extension(pa.bool8(), [1, None, 0, 1]),
    "foreign": extension(pa.opaque(pa.string(), "shape", "maker"), ["x", None, "y", "z"]),
    "tensor": extension(pa.fixed_shape_tensor(pa.int32(), [2]), [[1, 2], [3, 4], [5, 6], [7, 8]]),
    "list_view": pa.array([[1], [], None, [None]], pa.list_view(pa.int32())),
    "view_of_texts": pa.array([["a", "b"], [], None, ["a", None]], pa.list_view(pa.string())),
    "in_struct": pa.array(
        [{"v": [1, 2]}, {"v": []}, None, {"v": [3]}], pa.struct([("v", pa.large_list_view(pa.int8()))])
    ),
    "nothing": pa.nulls(4),
}


@pytest.mark.parametrize("rows_of_a_group", [1, 3, 100])
def test_every_type_of_parquet_comes_out_as_it_went_in(tmp_path: Path, rows_of_a_group: int) -> None:
    fields = [pa.field(name, array.type, metadata={"unit": name}) for name, array in EVERY.items()]
    fields.append(pa.field("always", pa.int64(), nullable=False))
    plain = pa.field("plain", pa.string(), metadata={"ARROW:extension:name": "nobody.knows"})
    schema = pa.schema([pa.field("text", pa.string()), *fields, plain], metadata={"mine": "kept", "geo": "{}"})
    table = pa.Table.from_arrays([pa.array(TEXTS), *EVERY.values(), pa.array(range(4)), pa.array(TEXTS)], schema=schema)
    found = through(tmp_path, {"rows.parquet": table}, {"row_group_size": rows_of_a_group})
    wanted = pq.ParquetFile(tmp_path / "in" / "rows.parquet").read()
    assert found.schema.equals(wanted.schema, check_metadata=True)
    half = found.schema.get_field_index("half")  # NaN is no equal of itself
    assert found.remove_column(half).equals(wanted.remove_column(half))
    assert str(found["half"].to_pylist()) == str(wanted["half"].to_pylist())


def test_every_type_of_parquet_can_be_written_as_json_lines(tmp_path: Path) -> None:
    moments = {"after": pa.array([2**30, 0, None, -(2**30)], pa.date32()), **EVERY}
    pq.write_table(pa.table({"text": TEXTS, **moments}), tmp_path / "rows.parquet")
    run(job(tmp_path / "rows.parquet", tmp_path / "out", output_format="jsonl"))
    assert (rejects(tmp_path / "out"), verify(str(tmp_path / "out")).problems) == ([], [])
    (part,) = (tmp_path / "out").glob("part-*")
    first = json.loads(part.read_text().splitlines()[0])
    found = {
        name: first[name] for name in ("json", "day", "price", "raw", "unsigned", "tensor", "map", "kind", "large")
    }
    assert found == {
        "json": '{"a": 1}',
        "day": "0001-01-01",
        "price": "1.50",
        "raw": "/wA=",
        "unsigned": 2**64 - 1,
        "tensor": [1, 2],
        "map": [["k", [1]]],
        "kind": "x",
        "large": "p",
    }


def test_json_lines_of_every_type_of_parquet_are_rows_beside_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": TEXTS, **EVERY}), tmp_path / "in" / "a.parquet")
    run(job(tmp_path / "in", tmp_path / "lines", output_format="jsonl"))
    (part,) = (tmp_path / "lines").glob("part-*")
    (tmp_path / "in" / "b.jsonl").write_bytes(part.read_bytes())
    run(job(tmp_path / "in", tmp_path / "out", output_prefix="new_"))
    assert (rejects(tmp_path / "out"), verify(str(tmp_path / "out")).problems) == ([], [])
    parquet, json_lines = (pq.read_table(part) for part in sorted((tmp_path / "out").glob("part-*")))
    assert parquet.schema.equals(json_lines.schema)
    for index in range(4):
        own, other = (printed(table.slice(index, 1).to_batches()[0]) for table in (parquet, json_lines))
        rest = json.loads(other[f"new_{UNPLANNED}"] or "{}")
        for name in EVERY:
            assert name in rest or str(own[name]) == str(other[name])


def test_a_part_is_an_input_again(tmp_path: Path) -> None:
    run(job(write_lines(tmp_path / "a.jsonl", [{"text": "a b", "x": [1]}]), tmp_path / "one"))
    run(job(tmp_path / "one", tmp_path / "two", output_prefix="new_"))
    (part,) = (tmp_path / "one").glob("part-*")
    pq.write_table(pq.read_table(part).drop_columns(RESULTS.names), tmp_path / "b.parquet")
    run(job(tmp_path / "b.parquet", tmp_path / "three"))
    with pytest.raises(ConfigError, match=f"{UNPLANNED} collide with input columns"):
        make_plan(job([tmp_path / "a.jsonl", tmp_path / "b.parquet"], tmp_path / "four"), DIGEST)


def test_dictionaries_inside_others_are_written_as_values_so_that_arrow_reads_every_part(tmp_path: Path) -> None:
    kinds = {
        "s": pa.array([{"k": "x"}, None, {"k": "y"}, {"k": None}], pa.struct([("k", DICTIONARY)])),
        "l": pa.array([["x", "y"], [], None, ["z"]], pa.list_(DICTIONARY)),
        "m": pa.array([[("a", "x")], [], None, [("b", None)]], pa.map_(pa.string(), DICTIONARY)),
        "f": pa.array([["x"], ["y"], None, [None]], pa.list_(DICTIONARY, 1)),
    }
    found = through(tmp_path, {"rows.parquet": pa.table({"text": TEXTS, **kinds})}, {"row_group_size": 3})
    assert [str(kind) for kind in found.schema.types[1:]] == [
        "struct<k: string>",
        "list<element: string>",
        "map<string, string ('m')>",
        "fixed_size_list<element: string>[1]",
    ]
    assert found.to_pydict() == {"text": TEXTS, **{name: kind.to_pylist() for name, kind in kinds.items()}}


@pytest.mark.parametrize(("view", "plain"), [(pa.string_view(), pa.string()), (pa.binary_view(), pa.binary())], ids=str)
def test_views_inside_others_are_written_as_values_since_arrow_neither_reads_nor_writes_all(
    tmp_path: Path, view: pa.DataType, plain: pa.DataType
) -> None:
    one, long = pa.array(["x", "é" * 40]).cast(plain).to_pylist()
    shapes: dict[str, tuple[Any, list[Any]]] = {
        "l": (pa.list_, [[one, None], [], None, [long]]),
        "s": (lambda kind: pa.struct([("v", kind)]), [{"v": one}, None, {"v": None}, {"v": long}]),
        "ls": (lambda kind: pa.list_(pa.struct([("v", kind)])), [[{"v": one}, None], None, [], [{"v": long}]]),
        "m": (lambda kind: pa.map_(pa.string(), kind), [[("k", one)], None, [], [("k", long)]]),
        "k": (lambda kind: pa.map_(kind, pa.int8()), [[(one, 1)], None, [], [(long, 2)]]),
    }
    held = pa.table({"text": TEXTS, **{name: pa.array(rows, make(plain)) for name, (make, rows) in shapes.items()}})
    noted = pa.schema([("text", pa.string()), *((name, make(view)) for name, (make, _) in shapes.items())])
    (tmp_path / "in").mkdir()
    with pq.ParquetWriter(tmp_path / "in" / "rows.parquet", held.schema, store_schema=False) as writer:
        writer.write_table(held)  # as DataFusion writes it: pyarrow cannot write all of these views
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(noted.serialize().to_pybytes()).decode()})
    assert through(tmp_path, {}).equals(held)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("interval 3 months", "v (interval)"),
        ("timetz '12:00:00+05:30'", "v (time in UTC)"),
        ("{'a': 1}::variant", "v (variant)"),
    ],
)
def test_types_of_parquet_that_arrow_lacks_are_told_before_they_become_others(
    tmp_path: Path, value: str, told: str
) -> None:
    with duckdb.connect() as base:
        base.execute(f"copy (select 'a b' text, {value} v, time '12:00' t) to '{tmp_path}/a.parquet' (format parquet)")
    config = job(tmp_path / "a.parquet", tmp_path / "out")
    plan = make_plan(config, DIGEST)
    assert f"retyped    {told}: Arrow has no such types" in describe(config, plan, ())


SIMPLE = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.bool_(): st.booleans(),
    US: st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("ns", "UTC"): st.integers(-(2**63), 2**63 - 1),
    pa.decimal128(38, 10): st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: decimal.Decimal(n).scaleb(-10)),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["x", "y", ""]),
}


@st.composite
def columns(draw: Any) -> pa.Array:
    """A column of some type, nested at will, with three values."""
    kind, values = draw(st.sampled_from(list(SIMPLE.items())))
    values = st.none() | values
    wraps = draw(st.lists(st.sampled_from(["list", "struct", "map"]), max_size=3))
    kind = kind.value_type if wraps and kind == DICTIONARY else kind  # inside of others it is written as its values
    for wrap in wraps:
        if wrap == "list":
            kind, values = pa.list_(kind), st.none() | st.lists(values, max_size=2)
        elif wrap == "struct":
            kind, values = (
                pa.struct([("a.b", kind), ("n", pa.int8())]),
                st.none() | st.fixed_dictionaries({"a.b": values}),
            )
        else:
            kind = pa.map_(pa.string(), kind)
            values = st.none() | st.lists(st.tuples(st.just("k"), values), max_size=1)
    with decimal.localcontext(decimal.Context(prec=60)):
        return pa.array([draw(values) for _ in range(3)], kind)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=columns(), name=st.sampled_from(["x", "", "a.b", "a b", "é`", "rate "]))
def test_any_nested_column_comes_out_as_it_went_in(tmp_path_factory: Any, column: pa.Array, name: str) -> None:
    table = pa.table({"text": TEXTS[:3], name: column})
    found = through(tmp_path_factory.mktemp("any"), {"rows.parquet": table})
    assert found.schema.equals(table.schema)
    assert found.combine_chunks().equals(table.combine_chunks())


# ---- moments of 96 bits


def int96(moments: list[int | None], unit: str = "us") -> pa.Table:
    column = pa.array(moments, pa.timestamp(unit))
    return pa.table(
        {"text": TEXTS[: len(moments)], "t": column, "l": pa.array([[one] for one in column], pa.list_(column.type))}
    )


OLD = {"use_deprecated_int96_timestamps": True, "store_schema": False}


def test_no_date_of_96_bits_wraps(tmp_path: Path) -> None:
    years = [-62_135_596_800_000_000, 253_402_300_799_999_999, None, 0]  # 0001-01-01, the end of 9999
    found = through(tmp_path, {"rows.parquet": int96(years)}, OLD)
    assert found["t"].type == US
    assert found["t"].cast(pa.int64()).to_pylist() == years
    assert found["l"].cast(pa.list_(pa.int64())).to_pylist() == [[year] for year in years]


def test_a_mistake_of_the_reader_cannot_hide_from_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = parquet.open_parquet

    def wrapping(source: Source, storage: Storage, **reading: Any) -> pq.ParquetFile:
        return opened(source, storage, **{**reading, "coerce_int96_timestamp_unit": "ns"})

    monkeypatch.setattr(parquet, "open_parquet", wrapping)
    pq.write_table(int96([0, 253_402_300_799_999_999]), tmp_path / "rows.parquet", **OLD)
    run(job(tmp_path / "rows.parquet", tmp_path / "out"))
    (problem,) = verify(str(tmp_path / "out")).problems
    assert re.search(r"row 1: column 't' is -\d+, in the input it is 253402300799000000000$", problem)


def test_digits_below_the_microsecond_are_kept_where_all_dates_allow_it(tmp_path: Path) -> None:
    found = through(tmp_path, {"a.parquet": int96([1, 2]), "b.parquet": int96([1_000_000_001, None], "ns")}, OLD)
    assert found["t"].type == pa.timestamp("ns")
    assert found["t"].cast(pa.int64()).to_pylist() == [1000, 2000, 1_000_000_001, None]


def test_dates_and_digits_that_no_type_holds_together_are_told(tmp_path: Path) -> None:
    pq.write_table(int96([1], "ns"), tmp_path / "a.parquet", **OLD)
    pq.write_table(int96([253_402_300_799_999_999]), tmp_path / "b.parquet", **OLD)
    with pytest.raises(SourceUnusable, match=r"b\.parquet has dates before 1677 .*a\.parquet digits below"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)


@pytest.mark.parametrize("kind", [pa.time64("ns"), pa.duration("ns")], ids=str)
def test_nanoseconds_beside_a_moment_of_96_bits_do_not_shorten_its_reach(tmp_path: Path, kind: pa.DataType) -> None:
    far, fine = pa.array([253_402_214_400_000_000, 0], US), pa.array([1, 2], kind)
    pair = pa.StructArray.from_arrays([far, fine], names=["when", "clock"])
    nested = pa.array([[("k", one)] for one in pair], pa.map_(pa.string(), pair.type))
    table = pa.table({"text": TEXTS[:2], "s": pair, "m": nested, "l": pa.array([[one] for one in pair])})
    found = through(tmp_path, {"rows.parquet": table}, {"use_deprecated_int96_timestamps": True})
    assert found.select(["s", "m", "l"]).equals(table.select(["s", "m", "l"]))


def test_a_page_whose_checksum_is_wrong_is_not_read_as_if_it_were_right(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": ["wordaaaa " * 3] * 50})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, compression="none")
    content = bytearray(path.read_bytes())
    content[pq.read_metadata(path).row_group(0).column(0).data_page_offset + 600] ^= 1
    path.write_bytes(content)
    run(job(path, tmp_path / "out"))
    assert {row["reason"] for row in rejects(tmp_path / "out")} == {"unreadable"}


# ---- what JSON Lines cannot say of Parquet


def as_lines(folder: Path, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a part of JSON Lines from these columns of Parquet, and nothing wrong with it."""
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    run(job(folder / "rows.parquet", folder / "out", output_format="jsonl"))
    assert verify(str(folder / "out")).problems == []
    (part,) = (folder / "out").glob("part-*")
    return [json.loads(line) for line in part.read_text().splitlines()]


def numbers(kind: pa.DataType, *values: int | None) -> pa.Array:
    return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)


@pytest.mark.parametrize(
    ("kind", "good", "text", "bad"),
    [
        (US, 0, "1970-01-01 00:00:00.000000", 2**63 - 1),
        (pa.timestamp("ms", "UTC"), 0, "1970-01-01 00:00:00.000Z", -(2**62)),
        (pa.timestamp("ns", "Asia/Tokyo"), 0, "1970-01-01 09:00:00.000000000+0900", 2**63 - 1),
        (pa.timestamp("us", "Nowhere/Land"), 5, 5, 7),
        (pa.date32(), 0, "1970-01-01", -(2**31)),
        (pa.time64("ns"), 5, "00:00:00.000000005", 86_400 * 10**9),
        (pa.time32("ms"), 1, "00:00:00.001000", -1),
    ],
    ids=str,
)
def test_a_moment_that_cannot_be_printed_is_its_number_in_json_lines(
    tmp_path: Path, kind: pa.DataType, good: int, text: str | int, bad: int
) -> None:
    flat = numbers(kind, good, bad, None)
    held = {"x": flat, "s": pa.StructArray.from_arrays([flat], names=["in"]), "l": pa.array([[one] for one in flat])}
    found = as_lines(tmp_path, {"text": TEXTS[:3], **held})
    assert rejects(tmp_path / "out") == []
    assert [row["x"] for row in found] == [text, bad, None]
    assert [row["s"]["in"] for row in found] == [text, bad, None]
    assert [row["l"] for row in found] == [[text], [bad], [None]]


BROKEN = pa.array([b"ok", b"\xff", b"ok"]).view(pa.string())
TWICE = pa.StructArray.from_arrays([BROKEN, BROKEN], names=["a", "a"], mask=pa.array([True, False, True]))


@pytest.mark.parametrize(
    ("column", "reason", "detail"),
    [
        (BROKEN, "invalid_utf8", "column 'd' is not UTF-8 at byte 0"),
        (BROKEN.dictionary_encode(), "invalid_utf8", "column 'd' is not UTF-8 at byte 0"),
        (pa.StructArray.from_arrays([BROKEN], names=["a"]), "invalid_utf8", "column 'd' is not UTF-8 at byte 0"),
        (TWICE, "unwritable", "column 'd' cannot be written as JSON: two fields of a struct are called 'a'"),
    ],
)
def test_a_value_that_json_cannot_hold_rejects_its_row_and_no_other(
    tmp_path: Path, column: pa.Array, reason: str, detail: str
) -> None:
    found = as_lines(tmp_path, {"text": TEXTS[:3], "d": column})
    assert [row["text"] for row in found] == [TEXTS[0], TEXTS[2]]
    (reject,) = rejects(tmp_path / "out")
    assert (reject["row"], reject["reason"], reject["detail"]) == (1, reason, detail)


def test_a_row_with_nothing_to_compress_is_rejected_as_that_whatever_else_it_holds(tmp_path: Path) -> None:
    as_lines(tmp_path, {"text": [TEXTS[0], None, TEXTS[2]], "d": BROKEN})
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == [(1, "null_text")]


def test_strings_that_are_not_utf8_pass_through_parquet_and_can_be_verified(tmp_path: Path) -> None:
    wanted = pa.table({"text": TEXTS[:3], "d": BROKEN, "x": [float("nan")] * 3})
    found = through(tmp_path, {"rows.parquet": wanted})
    assert found["d"].cast(pa.binary()).to_pylist() == [b"ok", b"\xff", b"ok"]


def test_moments_in_list_views_are_written_beyond_the_years_of_python(tmp_path: Path) -> None:
    view = pa.array([[3 * 10**14, 0], []], pa.list_view(pa.int64()))
    far = pa.ListViewArray.from_arrays(view.offsets, view.sizes, view.values.view(pa.timestamp("ms")))
    found = as_lines(tmp_path, {"text": TEXTS[:2], "d": far})
    assert [row["d"] for row in found] == [["11476-08-15 05:20:00.000", "1970-01-01 00:00:00.000"], []]


# ---- what files note of their columns


def test_pandas_finds_its_index_and_its_types_again(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": TEXTS,
            "count": pd.array([1, None, 3, 4], "Int64"),
            "kind": pd.Categorical(["x", "y", None, "x"]),
            "when": pd.date_range("2024-01-01", periods=4, tz="Europe/Berlin"),
        },
        index=pd.Index(["r1", "r2", "r3", "r4"], name="key"),
    )
    frame.to_parquet(tmp_path / "a.parquet")
    run(job(tmp_path / "a.parquet", tmp_path / "out"))
    found = pd.read_parquet(tmp_path / "out")
    pd.testing.assert_frame_equal(found[frame.columns], frame)
    assert set(RESULTS.names) < set(found.columns)


def test_a_range_of_pandas_is_no_index_of_other_files(tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS[:2]}, index=pd.RangeIndex(500, 502)).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"text": TEXTS[2:]}).to_parquet(tmp_path / "b.parquet")
    run(job(tmp_path / "a.parquet", tmp_path / "one"))
    assert pd.read_parquet(tmp_path / "one").index.tolist() == [500, 501]
    run(job([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "two"))
    parts = sorted((tmp_path / "two").glob("part-*"))
    assert [pd.read_parquet(part).index.tolist() for part in parts] == [[0, 1], [0, 1]]


def test_datasets_and_spark_see_the_input_as_it_was_and_the_results(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 1, 0]}, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    spark = {"type": "struct", "fields": [{"name": "text", "type": "string", "nullable": True, "metadata": {}}]}
    key = "org.apache.spark.sql.parquet.row.metadata"
    notes = {**(table.schema.metadata or {}), key: json.dumps(spark), "pandas": "no JSON"}
    pq.write_table(table.replace_schema_metadata(notes), tmp_path / "a.parquet")
    run(job(tmp_path / "a.parquet", tmp_path / "out"))
    (part,) = (tmp_path / "out").glob("part-*")
    loaded = datasets.load_dataset("parquet", data_files=str(part), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.features["label"].names == ["no", "yes"]
    assert loaded["compressed_context"][0] == ["a c"]
    written = json.loads(pq.read_schema(part).metadata[key.encode()])
    assert [field["name"] for field in written["fields"]] == ["text", "label", *RESULTS.names]
    assert b"pandas" not in pq.read_schema(part).metadata


def noted(folder: Path) -> tuple[set[str], list[set[str]]]:
    """The columns of the first part, and those that the notes of Spark and `datasets` name."""
    schema = pq.read_schema(min(folder.glob("part-*")))
    spark, features = (json.loads(schema.metadata[key]) for key in (SPARK, DATASETS))
    return set(schema.names), [{field["name"] for field in spark["fields"]}, set(features["info"]["features"])]


def with_notes(table: pa.Table) -> pa.Table:
    """With the notes of Spark and `datasets`, of its column `text`."""
    spark = {"type": "struct", "fields": [{"name": "text", "type": "string", "nullable": True, "metadata": {}}]}
    features = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}
    return table.replace_schema_metadata({SPARK: json.dumps(spark), DATASETS: json.dumps(features)})


def test_notes_name_the_columns_of_folders_and_of_json_lines(tmp_path: Path) -> None:
    row = {"text": "x y", "n": 1, "f": 0.5, "ok": True, "o": {"a": ["b"], "c": {"d": 1}}, "mixed": [1, "a"]}
    (tmp_path / "in" / "year=2023").mkdir(parents=True)
    pq.write_table(with_notes(pa.table({"text": TEXTS})), tmp_path / "in" / "year=2023" / "a.parquet")
    write_lines(tmp_path / "in" / "b.jsonl", [row])
    run(job(tmp_path / "in", tmp_path / "out"))
    names, found = noted(tmp_path / "out")
    assert {"year", "n", "f", "ok", "o", "mixed", UNPLANNED, *RESULTS.names} < names
    assert found == [names, names]
    parts = sorted(map(str, (tmp_path / "out").glob("part-*")))
    loaded = datasets.load_dataset("parquet", data_files=parts, cache_dir=str(tmp_path / "cache"))["train"]
    assert (list(loaded["year"]), loaded[0]["o"]) == ([None] + ["2023"] * 4, row["o"])


def test_notes_of_a_library_that_has_no_such_type_are_left_out(tmp_path: Path) -> None:
    times = pa.array([1, 2, 3, 4], pa.time64("us"))  # Spark has no times of day
    maps = pa.array([[("k", 1)]] * 4, pa.map_(pa.string(), pa.int8()))
    for name, column, gone in (("times", times, SPARK), ("maps", maps, DATASETS)):
        pq.write_table(with_notes(pa.table({"text": TEXTS, name: column})), tmp_path / f"{name}.parquet")
        run(job(tmp_path / f"{name}.parquet", tmp_path / name))
        (part,) = (tmp_path / name).glob("part-*")
        assert set(pq.read_schema(part).metadata) & {SPARK, DATASETS} == {SPARK, DATASETS} - {gone}


def test_duckdb_json_is_read_and_stays_json(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with duckdb.connect() as base:
        base.execute(f"copy (select 1 id, '{{\"text\": \"a b c\"}}'::json doc, uuid() u) to '{path}' (format parquet)")
    run(job(path, tmp_path / "out", text_column="doc"))
    (part,) = (tmp_path / "out").glob("part-*")
    assert "JSON" in str(pq.ParquetFile(part).schema.column(1).logical_type)
    with duckdb.connect() as base:
        assert base.execute(f"select typeof(doc), doc->>'text', typeof(u) from '{part}'").fetchall() == [
            ("JSON", "a b c", "UUID")
        ]


# ---- parts


def test_a_part_that_cannot_be_read_again_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "a b"}])
    whole = pq.ParquetWriter.close

    def cut(self: pq.ParquetWriter) -> None:
        whole(self)
        self.where.write_bytes(self.where.read_bytes()[:-9])

    monkeypatch.setattr(pq.ParquetWriter, "close", cut)
    with pytest.raises(AbortRun, match="a part was written that cannot be read"):
        run(job(path, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_wide_row_takes_no_arrays_of_its_own_while_it_waits(tmp_path: Path) -> None:
    schema = pa.schema([(f"c{n}", pa.int64()) for n in range(2000)])
    batch = pa.RecordBatch.from_arrays([pa.array(range(500))] * 2000, schema=schema)
    added = [*schema, *RESULTS]
    encoder = ParquetEncoder(tmp_path / "part", schema, pa.schema(added))
    results = {field.name: [] if pa.types.is_list(field.type) else None for field in RESULTS}
    before = pa.total_allocated_bytes()
    for carried in arrow_rows(batch):
        encoder.write(Row(0, {}, carried), results)
    assert pa.total_allocated_bytes() - before < 1 << 20
    encoder.close()
    assert pq.read_metadata(tmp_path / "part").num_row_groups == 1


def test_what_waits_to_be_written_is_measured_in_memory(tmp_path: Path) -> None:
    schema = pa.schema([("page", pa.string())])
    encoder = ParquetEncoder(tmp_path / "part", schema, pa.schema([*schema, *RESULTS]))
    results = {field.name: [] if pa.types.is_list(field.type) else None for field in RESULTS}
    before = pa.total_allocated_bytes()
    for _ in range(200):
        batch = pa.RecordBatch.from_pydict({"page": ["x" * (1 << 20)]}, schema)
        encoder.write(Row(0, {}, next(arrow_rows(batch))), results)
        assert pa.total_allocated_bytes() - before < 100 << 20
    encoder.close()
    assert pq.read_metadata(tmp_path / "part").num_rows == 200
