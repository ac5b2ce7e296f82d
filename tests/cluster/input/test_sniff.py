"""What a file holds decides how it is read; what cannot be read is told with its file, its kind and a remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SourceUnusable
from cluster.input.cutting import plan_shards
from cluster.input.inputs import list_inputs
from cluster.input.jsonl import as_utf8, decompressed, numbered_lines
from cluster.input.reader import read_rows
from cluster.input.shards import Row
from cluster.output.prepare import make_plan
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import DIGEST, job, rejects, run

ROWS = [{"text": "one"}, {"text": "zwei – 二 𝄞"}, {"text": "three"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
LONG = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({"text": [row["text"] for row in ROWS]}), data)
    return data.getvalue()


def gz(data: bytes) -> bytes:
    """Without the time: names of tests are made of it, and processes that share a run must collect the same."""
    return gzip.compress(data, mtime=0)


def zstd(data: bytes, **parameters: Any) -> bytes:
    packer = zstandard.ZstdCompressor(**parameters).compressobj()
    return bytes(packer.compress(data) + packer.flush())


def skippable(content: bytes) -> bytes:
    return b"\x5f\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


READ = {
    "rows.jsonl": gzip.compress(LINES),
    "zstd.jsonl": zstd(LINES),
    "plain.jsonl.gz": LINES,
    "zstd.jsonl.gz": zstd(LINES),
    "gzip.json.zst": gzip.compress(LINES),
    "long.jsonl.zst": zstd(LINES, compression_params=LONG),
    "skippable.jsonl.zst": skippable(b"index") + zstd(LINES) + skippable(b"") + b"\0\0",
    "parquet.json": parquet(),
    "utf8-mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "utf16.jsonl": b"\xff\xfe" + LINES.decode().encode("utf-16-le"),
    "utf16-be.json": b"\xfe\xff" + LINES.decode().replace("\n", "\r\n").encode("utf-16-be"),
    "utf16-unmarked.jsonl": LINES.decode().encode("utf-16-le"),
    "utf32.jsonl": LINES.decode().encode("utf-32"),
    "utf16.jsonl.gz": gzip.compress(b"\xff\xfe" + LINES.decode().encode("utf-16-le")),
    "spaces.jsonl": b"\n \n" + LINES,
    "marks.jsonl": b"\xef\xbb\xbf" * 2 + LINES.replace(b"\n", b"\n\xef\xbb\xbf"),
    "padded.jsonl.gz": gzip.compress(LINES[:20]) + b"\0" * 9 + gzip.compress(LINES[20:]) + b"\0" * 5000,
}


HUGE = b"9" * 5000
"""A number of more digits than Python turns into an int."""


@pytest.mark.parametrize("name", READ)
def test_lines_are_read_whatever_the_name_says_of_their_packing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READ[name])
    plan = make_plan(job(tmp_path / name, tmp_path / "out", output_format="jsonl"), DIGEST)
    rows = [row for shard in plan.shards for row in read_rows(shard, plan.columns, Storage())]
    assert [row.values["text"] for row in rows if isinstance(row, Row)] == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", json.dumps(ROWS).encode(), "holds one JSON array"),
        ("a.json", b"\xef\xbb\xbf[\n  {}\n]", "holds one JSON array"),
        ("a.json", b"\xff\xfe" + json.dumps(ROWS).encode("utf-16-le"), "holds one JSON array"),
        ("a.json.gz", gz(json.dumps(ROWS).encode()), r"holds one JSON array.*\(it is compressed by gzip\)"),
        ("a.json.zst", zstd(json.dumps(ROWS).encode()), r"holds one JSON array.*\(it is compressed by zstd\)"),
        ("a.json", json.dumps(ROWS[0], indent=2).encode(), "holds JSON objects spread over several lines"),
        ("a.json", b'{\n "text": "' + b"x" * 200_000 + b'"\n}', "holds JSON objects spread over several lines"),
        ("a.jsonl", b"[1, 2]\n[3, 4]\n", "holds a JSON array a line"),
        ("a.jsonl", b"[%s, NaN]\n\xef\xbb\xbf[3, 4]\n" % HUGE, "holds a JSON array a line"),
        ("a.json", b'{"text": "a",\n"n": [%s, -Infinity]}' % HUGE, "holds JSON objects spread over several lines"),
        ("a.json", b"\xef\xbb\xbf\xef\xbb\xbf[\n  %s\n]" % HUGE, "holds one JSON array"),
        ("a.jsonl", b"id,text\n1,a\n2,b\n", "looks like CSV"),
        ("a.jsonl", b"id\ttext\n1\ta\n", "looks like tab-separated"),
        ("a.jsonl", b"<html><body>404</body></html>", "is HTML or XML"),
        ("a.jsonl", bz2.compress(LINES), "is compressed by bzip2"),
        ("a.jsonl.gz", lzma.compress(LINES), "is compressed by xz"),
        ("a.jsonl.gz", gz(gz(LINES)), "is gzip inside gzip; unpack it once"),
        ("a.jsonl.gz", gz(parquet()), "is Parquet inside gzip"),
        ("a.json", b"ARROW1\0\0", "is an Arrow file; write it as Parquet"),
    ],
)
def test_what_is_no_json_lines_is_told_with_its_file_and_a_remedy(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceUnusable, match=rf"{name}: {message}"):
        make_plan(job(tmp_path / name, tmp_path / "out"), DIGEST)


def test_archives_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.jsonl", "w") as archive:
        archive.writestr("a.jsonl", LINES)
    with pytest.raises(SourceUnusable, match="is a zip archive"):
        list_inputs([str(tmp_path)], Storage())
    with tarfile.open(tmp_path / "a.jsonl", "w:gz") as archive:
        archive.add(__file__)
    with pytest.raises(SourceUnusable, match="is a tar archive inside gzip"):
        list_inputs([str(tmp_path)], Storage())


@pytest.mark.parametrize(
    "content",
    [b"{bad}\n" + LINES, b"[1, 2]\n" + LINES, b"a,b\n" + LINES, b'{"text": "a",\n' + LINES, b"garbage\n", b"\0\0\n"],
)
def test_bad_lines_among_good_ones_are_rejected_one_by_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(LINES)
    run(job(tmp_path, tmp_path / "out"))
    assert [row["row"] for row in rejects(tmp_path / "out")] == [0]


def test_an_input_of_bad_lines_is_told_with_their_number_reason_and_an_example(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": \n{"te\n\xff\n')
    with pytest.raises(
        ConfigError, match=r"no row of .*a\.jsonl can be read: of 3 lines .* 2 are rejected as invalid_json"
    ):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)
    with pytest.raises(ConfigError, match=r"a\.jsonl, line 1: the line is not JSON"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)
    (tmp_path / "a.jsonl").write_bytes(b"{}\n{}\n")
    with pytest.raises(ConfigError, match="has a column: 2 empty objects"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)
    (tmp_path / "a.jsonl").write_bytes(b" \n\n")
    with pytest.raises(ConfigError, match="no rows in"):
        make_plan(job(tmp_path, tmp_path / "out"), DIGEST)


def test_a_zstd_frame_that_cannot_be_decoded_here_is_told(tmp_path: Path) -> None:
    words = zstandard.train_dictionary(1024, [f"{number} words of sample {number}".encode() for number in range(999)])
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(LINES, dict_data=words))
    with pytest.raises(SourceUnusable, match=r"is zstd with dictionary .* write it without"):
        list_inputs([str(tmp_path)], Storage())
    (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd\x00\xb0" + b"\0" * 9)  # a window of 4 GiB
    with pytest.raises(SourceUnusable, match="is zstd with a window over 2,147,483,648 bytes"):
        list_inputs([str(tmp_path)], Storage())
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(LINES) + b"\x28\xb5\x2f\xfd\x00\xb0" + b"\0" * 9)
    assert [reason for _, reason in outcomes(tmp_path / "a.jsonl.zst")[-1:]] == ["window_too_large"]


def outcomes(path: Path) -> list[tuple[int, str]]:
    (shard,) = plan_shards(list_inputs([str(path)], Storage()).sources, 1 << 40, Storage())
    lines = numbered_lines(shard, Storage())
    return [(number, line.decode() if isinstance(line, bytes) else line.reason) for number, line in lines]


def decoded(compression: Any, blocks: list[bytes]) -> bytes:
    return b"".join(decompressed(blocks, compression))


@given(st.lists(st.binary(max_size=30), max_size=4), st.integers(0, 12), st.integers(1, 40), st.booleans())
def test_padding_and_empty_members_are_no_damage_wherever_a_block_ends(
    pieces: list[bytes], zeros: int, block: int, packed_by_gzip: bool
) -> None:
    pack = gzip.compress if packed_by_gzip else zstd
    data = b"".join(pack(piece) + pack(b"") + b"\0" * zeros for piece in pieces)
    blocks = [data[start : start + block] for start in range(0, len(data), block)]
    assert decoded("gzip" if packed_by_gzip else "zstd", blocks) == b"".join(pieces)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_many_small_members_are_copied_a_few_times_each_and_not_with_all_that_follow(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Counted are the bytes that decoders are given: each byte behind the end of a member is given again."""
    given_bytes: list[int] = []
    from cluster.input import jsonl

    decode = jsonl._decode

    def counted(decompress: Any, *arguments: Any) -> bytes:
        given_bytes.append(len(arguments[0]))
        return decode(decompress, *arguments)

    monkeypatch.setattr(jsonl, "_decode", counted)
    work = []
    for count in (2000, 4000):
        given_bytes.clear()
        decoded(kind, [(gzip.compress(b"") if kind == "gzip" else zstd(b"")) * count])
        work.append(sum(given_bytes))
    assert work[1] <= 2.1 * work[0]
    assert work[0] <= 2000 * 80


@given(st.text(), st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32"]), st.integers(1, 9))
def test_wide_text_is_the_same_in_utf8_however_its_bytes_arrive(text: str, codec: str, block: int) -> None:
    whole = '{"text": "' + text
    data = whole.encode(codec, "surrogatepass")
    blocks = iter([data[start : start + block] for start in range(0, len(data), block)])
    assert b"".join(as_utf8(blocks)).removeprefix(b"\xef\xbb\xbf") == whole.encode("utf-8", "surrogatepass")


def test_wide_text_that_is_cut_gives_its_rows_and_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes((b"\xff\xfe" + LINES.decode().encode("utf-16-le"))[:-5])
    found = outcomes(tmp_path / "a.jsonl")
    assert [number for number, _ in found] == [0, 1, 2]
    assert found[-1] == (2, "damaged_file")


def test_half_of_a_surrogate_pair_costs_its_own_row_only(tmp_path: Path) -> None:
    text = '{"text": "a"}\n{"text": "\ud800"}\n{"text": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(text.encode("utf-16", "surrogatepass"))
    run(job(tmp_path, tmp_path / "out"))
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == [(1, "invalid_utf8")]
