"""Inputs → sources → shards: nothing doubled, nothing lost, the same on every machine."""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.errors import SourceUnusable
from cluster.input.cutting import cut_lines, plan_shards
from cluster.input.inputs import list_inputs
from cluster.input.shards import Source
from cluster.output.prepare import make_plan
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import DIGEST, job, write_lines
from tests.s3server import S3Bucket


def source_of(path: Path) -> Source:
    return list_inputs([str(path)], Storage()).sources[0]


@given(st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r\n"]), max_size=40).map(b"".join), st.integers(1, 12))
@example(b"abc", 1)
@example(b"\n\n\n", 1)
@example(b"aaaa\naaaaaaaaaaaa\na", 5)
def test_any_file_in_any_shard_size_gives_every_line_once_in_order(content: bytes, shard_size: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(content)
        if not content:
            assert plan_shards([source_of(path)], shard_size, Storage()) == []
            return
        ranges = list(cut_lines(source_of(path), shard_size, Storage()))
    pieces = [content[piece.start : piece.end] for piece in ranges]
    assert b"".join(pieces) == content
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    counts = [piece.count(b"\n") + (not piece.endswith(b"\n")) for piece in pieces]
    assert [piece.rows for piece in ranges] == counts
    assert [piece.first_row for piece in ranges] == [sum(counts[:index]) for index in range(len(counts))]
    for piece in ranges:
        ends = [at for at in range(piece.start, piece.end - 1) if content[at : at + 1] == b"\n"]
        assert {start // shard_size for start in (piece.start, *(end + 1 for end in ends))} == {
            piece.start // shard_size
        }


def test_planning_twice_gives_the_same_names_and_a_changed_file_other_ones(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "x" * 100}] * 100)
    first = plan_shards([source_of(path)], 2000, Storage())
    assert first == plan_shards([source_of(path)], 2000, Storage())
    write_lines(path, [{"text": "y" * 100}] * 101)
    second = plan_shards([source_of(path)], 2000, Storage())
    assert not {shard.name for shard in first} & {shard.name for shard in second}


def test_parquet_is_cut_between_row_groups_and_a_huge_group_in_row_ranges(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": [f"{number:0100d}" for number in range(1000)]})
    pq.write_table(table, path, row_group_size=100, use_dictionary=False, compression="none")
    groups = plan_shards([source_of(path)], 25_000, Storage())
    assert [(shard.start, shard.end) for shard in groups] == [(row, row + 200) for row in range(0, 1000, 200)]
    pq.write_table(table, path, row_group_size=1000, use_dictionary=False, compression="none")
    pieces = plan_shards([source_of(path)], 25_000, Storage())
    assert len(pieces) > 3
    assert [shard.start for shard in pieces[1:]] == [shard.end for shard in pieces[:-1]]
    assert pieces[-1].end == 1000


PROMPTS = [(f"{number} " + "prompt " * 1200)[:8150] for number in range(40)]


@pytest.mark.parametrize(
    "written",
    [{}, {"row_group_size": 500}, {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}],
    ids=["one group", "small groups", "shared prefixes"],
)
@pytest.mark.parametrize("nested", [False, True])
def test_parquet_is_cut_by_what_its_rows_hold_and_not_by_what_they_weigh_encoded(
    tmp_path: Path, written: dict[str, Any], nested: bool
) -> None:
    texts: list[Any] = [PROMPTS[number % 40] for number in range(8000)]
    if nested:
        texts, written = [[text] for text in texts], {k: v for k, v in written.items() if k == "row_group_size"}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": texts}), path, **written)
    assert path.stat().st_size < 5 << 20  # of 65 MB of text
    shards = plan_shards([source_of(path)], 8 << 20, Storage())
    assert 7 <= len(shards) <= 10
    assert shards == plan_shards([source_of(path)], 8 << 20, Storage())
    assert [shard.start for shard in shards[1:]] == [shard.end for shard in shards[:-1]]


def test_a_shard_of_short_rows_is_bounded_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a"] * 200_000}), path, row_group_size=10_000)
    shards = plan_shards([source_of(path)], 32 << 20, Storage())
    assert {shard.rows for shard in shards} == {60_000, 20_000}


def test_footers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(self: Storage, url: str, size: int) -> Any:
        opened.append(url)
        return real(self, url, size)

    real = Storage.open
    monkeypatch.setattr(Storage, "open", counted)
    for number in range(5):
        pq.write_table(pa.table({"text": [f"a {number}"]}), tmp_path / f"{number}.parquet", use_dictionary=False)
    make_plan(job(tmp_path, tmp_path / "out"), DIGEST)
    assert len(opened) == len(set(opened)) == 5


def test_compressed_lines_are_one_shard_and_empty_files_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl.gz").write_bytes(b"x" * 5000)
    shards = plan_shards(list_inputs([str(tmp_path)], Storage()).sources, 1024, Storage())
    assert [(Path(shard.source.path).name, shard.start, shard.end) for shard in shards] == [("b.jsonl.gz", 0, 5000)]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", None])
def test_a_truncated_parquet_file_is_named_before_the_run(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    with pytest.raises(SourceUnusable, match=r"rows\.parquet: not a whole Parquet file"):
        plan_shards([source_of(path)], 1024, Storage())


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_an_encrypted_parquet_file_is_told_as_that(tmp_path: Path, plaintext_footer: bool) -> None:
    keys = encryption.CryptoFactory(lambda _: PlainKeys())
    wanted = encryption.EncryptionConfiguration("key", column_keys={"key": ["text"]}, plaintext_footer=plaintext_footer)
    sealed = keys.file_encryption_properties(encryption.KmsConnectionConfig(), wanted)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet", encryption_properties=sealed)
    with pytest.raises(SourceUnusable, match=r"rows\.parquet: is encrypted Parquet, and no keys are taken here"):
        plan_shards([source_of(tmp_path / "rows.parquet")], 1024, Storage())


def test_a_file_in_a_folder_called_after_ciphers_is_not_taken_for_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/encrypted/rows.parquet")

    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
    source = source_of(tmp_path / "rows.parquet")
    monkeypatch.setattr(Storage, "open", refused)
    with pytest.raises(SourceUnusable, match="Permission denied"):
        plan_shards([source], 1024, Storage())


class PlainKeys(encryption.KmsClient):  # type: ignore[misc, unused-ignore]
    """A service that gives keys as they are."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def names(inputs: list[str], folder: Path) -> list[str]:
    return [str(Path(source.path).relative_to(folder)) for source in list_inputs(inputs, Storage()).sources]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl.gz", "sub/c.parquet", "sub/d.ndjson", "_hidden/e.jsonl", "f.txt", "g[1].jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
    return tmp_path


def test_a_directory_means_its_readable_files_in_order(folder: Path) -> None:
    assert names([str(folder)], folder) == ["a.jsonl.gz", "b.jsonl", "g[1].jsonl", "sub/c.parquet", "sub/d.ndjson"]


def test_globs_and_paths_are_united_in_the_order_given(folder: Path) -> None:
    given = [str(folder / "sub" / "*"), str(folder / "b.jsonl"), str(folder / "*.jsonl"), str(folder / "g[1].jsonl")]
    assert names(given, folder) == ["sub/c.parquet", "sub/d.ndjson", "b.jsonl", "g[1].jsonl"]


def test_directories_and_globs_mean_the_same_in_an_object_store(s3: S3Bucket) -> None:
    for name in ("b.jsonl", "sub/a.jsonl.gz", "_hidden/c.jsonl", "d.txt"):
        s3.files.pipe_file(f"{s3.url}/in/{name}", b"{}\n")
    storage = Storage(s3.storage_options)
    for pattern in (s3.url, f"{s3.url}/in/", f"{s3.url}/in"):
        found = list_inputs([pattern], storage).sources
        assert [source.path for source in found] == [f"{s3.url}/in/b.jsonl", f"{s3.url}/in/sub/a.jsonl.gz"]
    assert [source.version[:5] for source in list_inputs([f"{s3.url}/in/*.jsonl"], storage).sources] == ["etag:"]
    with pytest.raises(ConfigError, match="no such file"):
        list_inputs([f"{s3.url}/nothing"], storage)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nothing-here", "no such file"),
        ("*.csv", "no file matches this pattern"),
        ("empty", "there is no file in this directory"),
        ("f.txt", r"found f\.txt, and no file with one of the endings \.parquet"),
    ],
)
def test_an_input_without_readable_files_is_an_error(folder: Path, pattern: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        list_inputs([str(folder / pattern)], Storage())


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/a.jsonl", "https://host/a.jsonl?X-Amz-Signature=secret"])
def test_urls_with_credentials_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        list_inputs([url], Storage())
    assert "secret" not in str(refusal.value)
