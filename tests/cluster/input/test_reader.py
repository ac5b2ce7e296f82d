"""Reading: every kind of file and every kind of damage has its one outcome."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RowError, SourceChanged
from cluster.input.columns import Columns, Mapped
from cluster.input.cutting import plan_shards
from cluster.input.inputs import list_inputs
from cluster.input.jsonl import split_lines
from cluster.input.reader import read_rows
from cluster.input.shards import ArrowRow, BadRow, Row
from cluster.storage.storage import Storage
from lingua.structured.exact import has_too_many, loads

TEXT = pa.schema([("text", pa.string())])
GOOD = b'{"text": "one"}\n'


def read(path: Path, schema: pa.Schema | None = TEXT, shard_size: int = 1 << 20) -> list[Row | BadRow]:
    storage = Storage()
    shards = plan_shards(list_inputs([str(path)], storage).sources, shard_size, storage)
    columns = Columns(Mapped(text="text"), schema)
    return [row for shard in shards for row in read_rows(shard, columns, storage)]


def outcomes(rows: list[Row | BadRow]) -> list[tuple[int, str]]:
    """(number, text or reason) of each row."""
    return [(row.number, row.reason if isinstance(row, BadRow) else row.values.get("text")) for row in rows]


def lines(tmp_path: Path, content: bytes) -> list[tuple[int, str]]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    return outcomes(read(path))


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b'{"text": "\xff"}', "invalid_utf8"),
        (b'{"text": ', "invalid_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"text": "x", "deep": ' + b"[" * 450 + b"]" * 450 + b"}", "too_deep"),
        (b'["text"]', "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
    ],
)
def test_a_bad_line_is_rejected_and_its_neighbours_are_not(tmp_path: Path, line: bytes, outcome: str) -> None:
    assert lines(tmp_path, GOOD + line + b"\n" + GOOD) == [(0, "one"), (1, outcome), (2, "one")]


@pytest.mark.parametrize("line", [b'{"text": "a"}{"text": "b"}', b'{"text": "a"}, \r', b'{"text": "a"}\r{"text": "b"}'])
def test_a_line_of_more_than_an_object_is_told_with_a_remedy(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + line + b"\n")
    bad = read(path)[1]
    assert isinstance(bad, BadRow)
    assert "the line is not JSON: Extra data: line 1 column 1" in bad.detail
    comma = line.rstrip().endswith(b",")
    assert bad.detail.endswith("; drop the comma at its end" if comma else "; write an object a line (jq -c .)")


def test_a_rejected_line_is_shown_as_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a\xffb"\n')
    (row,) = read(path)
    assert isinstance(row, BadRow)
    assert row.raw == '{"text": "a\\xffb"'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf" + GOOD, [(0, "one")]),
        (
            GOOD + b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf\n\xef\xbb\xbf\xef\xbb\xbf" + GOOD,
            [(0, "one"), (1, "one"), (3, "one")],
        ),
        ((GOOD.decode() * 2).replace("\n", "\n\ufeff").encode("utf-16"), [(0, "one"), (1, "one")]),
        (b'{"text": "a"}\r\n{"text": "b"}\r\n', [(0, "a"), (1, "b")]),
        (b'\n \n{"text": "a"}\n\t\n{"text": "b"}', [(2, "a"), (4, "b")]),
        (b'{"text": "a\\nb\\u2028c"}\n', [(0, "a\nb\u2028c")]),
        ('{"text": "\u2028 \x85"}\n'.encode(), [(0, "\u2028 \x85")]),
        (b"", []),
        (b"\n\n", []),
        (b'{"text": null}\n{}\n', [(0, None), (1, None)]),
    ],
    ids=[
        "BOM",
        "BOMs within",
        "BOMs within UTF-16",
        "CRLF",
        "blank lines, no end",
        "escaped ends",
        "line separators",
        "empty",
        "only blank",
        "null",
    ],
)
def test_harmless_peculiarities_of_json_lines(
    tmp_path: Path, content: bytes, expected: list[tuple[int, str | None]]
) -> None:
    assert lines(tmp_path, content) == expected


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (b'{"text": "a"}\xef\xbb\xbf{"text": "b"}', 14),
        (b' \xef\xbb\xbf{"text": "b"}', 2),
        (b'{\xef\xbb\xbf"text": "b"}', 2),
    ],
)
def test_a_byte_order_mark_in_the_middle_of_a_line_is_told_as_such(tmp_path: Path, line: bytes, place: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    _, row, _ = read(path)
    assert isinstance(row, BadRow)
    assert row.reason == "invalid_json"
    assert row.detail.startswith(f"a byte order mark stands in the middle of the line, as character {place}:")


def test_a_byte_order_mark_within_a_string_is_text(tmp_path: Path) -> None:
    assert lines(tmp_path, b'{"text": "a\xef\xbb\xbfb"}\n') == [(0, "a\ufeffb")]


def test_a_line_of_too_many_values_is_rejected_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_lines: list[str] = []
    monkeypatch.setattr("cluster.input.jsonl.loads", lambda text: read_lines.append(text[:9]) or loads(text))
    many = b'{"text": "x", "n": [' + b"{}," * 2_500_000 + b"{}]}\n"
    prose = b'{"text": "' + b"a, [b], {c}, " * 1_000_000 + b'"}\n'
    (first, bad, last, long) = lines(tmp_path, GOOD + many + GOOD + prose)
    assert (first, bad, last, long[0]) == ((0, "one"), (1, "too_many_values"), (2, "one"), 3)
    assert len(read_lines) == 3


@given(st.recursive(st.text(',[{"\\a', max_size=4) | st.integers(0, 9), lambda inner: st.lists(inner, max_size=4)))
def test_values_are_counted_outside_of_strings(value: object) -> None:
    plain = re.sub(r'"(\\.|[^"\\])*"', "", json.dumps(value))
    with pytest.MonkeyPatch.context() as patch:
        for limit in range(9):
            patch.setattr("lingua.structured.exact.MAX_VALUES", limit)
            assert has_too_many(json.dumps(value).encode()) == (len(re.findall(r"[,\[{]", plain)) > limit)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_byte_order_mark_at_the_beginning_of_a_later_member_is_harmless(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.jsonl.{kind}"
    path.write_bytes(compressed(kind, GOOD) + compressed(kind, b"\xef\xbb\xbf" + GOOD))
    assert outcomes(read(path)) == [(0, "one"), (1, "one")]


def test_nan_and_infinity_pass_through_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a", "x": NaN}\n{"text": "b", "x": -Infinity}\n')
    rows = read(path, TEXT.append(pa.field("x", pa.float64())))
    assert [str(row.carried.record().column("x")[0]) for row in rows] == ["nan", "-inf"]


@given(st.binary(max_size=60), st.integers(1, 7), st.integers(1, 20))
def test_lines_are_the_same_however_the_bytes_arrive(content: bytes, block: int, limit: int) -> None:
    blocks = [content[start : start + block] for start in range(0, len(content), block)]
    expected = content.split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    found = list(split_lines(blocks, limit))
    for line, wanted in zip(found, expected, strict=True):
        if len(wanted) > limit:
            assert isinstance(line, RowError)
            assert line.raw == wanted
        else:
            assert line == wanted.removesuffix(b"\r")


def compressed(kind: str, content: bytes) -> bytes:
    return gzip.compress(content) if kind == "gz" else zstandard.ZstdCompressor().compress(content)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_lines_in_several_members_are_read_to_the_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.jsonl.{kind}"
    path.write_bytes(compressed(kind, b'{"text": "a"}\n{"te') + compressed(kind, b'xt": "b"}\n'))
    assert outcomes(read(path)) == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_cut_short_gives_the_rows_before_the_cut_and_one_reject(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.jsonl.{kind}"
    documents = [{"text": f"{number} " + "x" * (number * 7919 % 300)} for number in range(20_000)]
    whole = compressed(kind, "".join(json.dumps(row) + "\n" for row in documents).encode())
    path.write_bytes(whole[: len(whole) // 2])
    rows = read(path)
    *good, last = rows
    assert len(good) > 100
    assert outcomes(good) == [(number, documents[number]["text"]) for number in range(len(good))]
    assert isinstance(last, BadRow)
    assert (last.number, last.reason) == (len(good), "truncated_file")


def test_damage_in_a_compressed_file_costs_no_more_than_the_rows_around_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(5000)]
    whole = compressed("gz", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    path.write_bytes(whole[:-8] + bytes(8))  # the checksum, which is looked at in the end
    *good, last = read(path)
    assert outcomes(good) == list(enumerate(texts[: len(good)]))
    assert len(good) > len(texts) * (1 - 4096 / len(whole))
    assert isinstance(last, BadRow)
    assert (last.number, last.reason) == (len(good), "damaged_file")


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_name_that_says_compressed_does_not_make_it_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.jsonl.{kind}"
    path.write_bytes(GOOD)
    assert outcomes(read(path)) == [(0, "one")]
    path.write_bytes(b"\xff\0\xfe" + compressed(kind, GOOD)[3:])
    assert outcomes(read(path)) == [(0, "damaged_file")]


def test_a_line_over_the_limit_is_rejected_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.input.jsonl.MAX_LINE", 1 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + b'{"text": "' + b"x" * (20 << 20) + b'"}\n' + GOOD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = read(path)
    assert outcomes(rows) == [(0, "one"), (1, "line_too_long"), (2, "one")]
    assert isinstance(rows[1], BadRow)
    assert len(rows[1].raw or "") < 2 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def test_parquet_rows_carry_their_number_and_their_exact_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b", "c"]),
            "moment": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "nested": pa.array([{"a": [1]}, None, {"a": []}]),
            "raw": pa.array([b"\xff", b"", None]),
            "score": pa.array([float("nan"), float("inf"), 0.5], pa.float32()),
        }
    )
    path = parquet(tmp_path / "rows.parquet", table, row_group_size=2)
    rows = read(path, pq.read_schema(path))
    assert [row.number for row in rows] == [0, 1, 2]
    again = pa.Table.from_batches([row.carried.record() for row in rows])
    assert again.schema.types == table.schema.types
    assert str(again.to_pydict()) == str(table.to_pydict())


@pytest.mark.parametrize("shard_size", [1 << 10, 1 << 14, 1 << 30])
@pytest.mark.parametrize("group", [7, 1000, 10_000])
def test_every_parquet_row_is_in_exactly_one_shard_in_order(tmp_path: Path, shard_size: int, group: int) -> None:
    texts = [f"{number} " * (number % 40) for number in range(5000)]
    path = parquet(tmp_path / "rows.parquet", pa.table({"text": texts}), row_group_size=group)
    assert outcomes(read(path, shard_size=shard_size)) == list(enumerate(texts))


def test_a_damaged_page_rejects_the_rows_that_cannot_be_read(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(3000)]
    options = {"row_group_size": 1000, "compression": "zstd", "use_dictionary": False}
    path = parquet(tmp_path / "rows.parquet", pa.table({"text": texts}), **options)
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content[start + 40 : start + 400] = bytes(360)
    path.write_bytes(content)
    rows = read(path, shard_size=1 << 10)
    assert [row.number for row in rows] == list(range(3000))
    assert {row.reason for row in rows if isinstance(row, BadRow)} == {"unreadable"}
    assert [row.number for row in rows if isinstance(row, BadRow)] == list(range(1000, 2000))


def test_text_that_is_not_utf8_rejects_only_its_row(tmp_path: Path) -> None:
    text = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    path = parquet(tmp_path / "rows.parquet", pa.table({"text": text}))
    assert outcomes(read(path)) == [(0, "good"), (1, "invalid_utf8"), (2, "fine")]


def test_a_huge_row_group_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = pa.array([f"{number:07d}" * 1000 for number in range(256)])
    with pq.ParquetWriter(path, TEXT, compression="none", use_dictionary=False) as writer:
        writer.write_table(pa.table({"text": pa.concat_arrays([texts] * 128)}), row_group_size=1 << 20)
    assert path.stat().st_size > 200 << 20
    storage = Storage()
    shard = plan_shards(list_inputs([str(path)], storage).sources, 1 << 40, storage)[0]
    peak = _peak_of(lambda: sum(1 for _ in read_rows(shard, Columns(Mapped(text="text"), TEXT), storage)))
    assert peak < 64 << 20


LONG = ["x" * 3_000_000, "y z" * 1_000_000]
SHARED = pa.DictionaryArray.from_arrays(pa.array([row % 2 for row in range(1500)], pa.int32()), pa.array(LONG))


@pytest.mark.parametrize("nested", [False, True])
def test_long_strings_that_many_rows_share_are_never_decoded_at_once(tmp_path: Path, nested: bool) -> None:
    path = tmp_path / "rows.parquet"
    texts: pa.Array = SHARED
    if nested:
        texts = pa.ListArray.from_arrays(pa.array(range(0, 1501, 5), pa.int32()), SHARED)
    pq.write_table(pa.table({"text": texts}), path, dictionary_pagesize_limit=1 << 30, store_schema=False)
    assert path.stat().st_size < 1 << 20  # of 4.5 GB
    storage, schema = Storage(), pa.schema([("text", pa.list_(pa.string()) if nested else pa.string())])
    shard = plan_shards(list_inputs([str(path)], storage).sources, 1 << 40, storage)[0]
    rows = read_rows(shard, Columns(Mapped(), schema), storage)
    peak = _peak_of(lambda: all(isinstance(row, Row) for row in rows))
    assert peak < 100 << 20


def test_a_row_that_no_memory_holds_is_rejected_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path, storage = tmp_path / "rows.parquet", Storage()
    texts = pa.ListArray.from_arrays(pa.array([0, 1, 1499, 1500], pa.int32()), SHARED)
    pq.write_table(pa.table({"text": texts}), path, dictionary_pagesize_limit=1 << 30, store_schema=False)
    shard = plan_shards(list_inputs([str(path)], storage).sources, 1 << 40, storage)[0]
    columns = Columns(Mapped(), pa.schema([("text", pa.list_(pa.string()))]))
    first, lost, last = list(read_rows(shard, columns, storage))
    assert isinstance(first, Row)
    assert isinstance(lost, BadRow)
    assert (lost.number, lost.reason) == (1, "row_too_large")
    assert "4,494,000,0" in lost.detail
    assert isinstance(last, Row)


@pytest.mark.parametrize("rows_of_a_group", [7, 100, 1 << 20])
@pytest.mark.parametrize("page", [1 << 10, 1 << 30])
def test_strings_of_every_nesting_come_as_they_are(tmp_path: Path, rows_of_a_group: int, page: int) -> None:
    words = [f"{number % 13}" * (number % 300) for number in range(400)]
    texts = [word if number % 11 else None for number, word in enumerate(words)]
    pairs = pa.array([[("k", word), ("l", None)] for word in words], pa.map_(pa.string(), pa.string()))
    table = pa.table(
        {
            "text": texts,
            "turns": [[{"role": "user", "content": text}, None] if text else None for text in texts],
            "pairs": pairs,
            "two": pa.array([[word, "q"] for word in words], pa.list_(pa.string(), 2)),
            "deep": [{"a": word, "b": {"c": [[word], []]}} for word in words],
            "kind": pa.array(words).dictionary_encode(),
            "view": pa.array(words, pa.string_view()),
            "large": pa.array(words, pa.large_string()),
            "raw": [word.encode() for word in words],
            "json": pa.array(['{"a": 1}'] * 400, pa.json_()),
        }
    )
    path, storage = tmp_path / "rows.parquet", Storage()
    pq.write_table(table, path, row_group_size=rows_of_a_group, dictionary_pagesize_limit=page)
    shards = plan_shards(list_inputs([str(path)], storage).sources, 50_000, storage)
    columns = Columns(Mapped(), table.schema)
    rows = [row for shard in shards for row in read_rows(shard, columns, storage)]
    carried = [row.carried.record() for row in rows if isinstance(row, Row) and isinstance(row.carried, ArrowRow)]
    assert len(shards) > 3
    assert pa.Table.from_batches(carried, table.schema).to_pydict() == table.to_pydict()


def _peak_of(work: Any) -> int:
    """Bytes by which Arrow's memory grew at most while `work` ran."""
    before, peak, ended = pa.total_allocated_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, pa.total_allocated_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    ended.set()
    watcher.join()
    return peak


@pytest.fixture(params=["rows.jsonl", "rows.parquet"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Iterator[Row | BadRow]]:
    path = tmp_path / str(request.param)
    if path.suffix == ".parquet":
        parquet(path, pa.table({"text": ["a", "b"]}))
    else:
        path.write_bytes(GOOD * 2)
    storage = Storage()
    shard = plan_shards(list_inputs([str(path)], storage).sources, 1 << 20, storage)[0]
    return path, read_rows(shard, Columns(Mapped(text="text"), TEXT), storage)


def test_a_file_that_changed_since_planning_is_not_read(opened: tuple[Path, Iterator[Row | BadRow]]) -> None:
    path, rows = opened
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(SourceChanged, match=r"planned with \d+ bytes \(mtime:.*now \d+ bytes \(mtime:"):
        next(rows)


def test_a_file_that_changes_while_it_is_read_fails_the_shard(opened: tuple[Path, Iterator[Row | BadRow]]) -> None:
    path, rows = opened
    next(rows)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(SourceChanged):
        list(rows)


def test_a_file_that_is_gone_is_named(opened: tuple[Path, Iterator[Row | BadRow]]) -> None:
    path, rows = opened
    path.unlink()
    with pytest.raises(SourceChanged, match="now gone"):
        next(rows)
