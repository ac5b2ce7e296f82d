"""Creation that one of many wins, on a disk and over S3's real protocol; failures by consequence."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun, RetryShard, RowError, SourceChanged, is_fatal
from cluster.storage.credentials import redact
from cluster.storage.local import create_whole
from cluster.storage.storage import Storage
from lingua.errors import ConfigError, PromptError
from tests.s3server import S3Bucket


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, str]:
    if request.param == "disk":
        return Storage(), str(tmp_path / "new")
    bucket: S3Bucket = request.getfixturevalue("s3")
    return Storage(bucket.storage_options), f"{bucket.url}/new"


def test_of_many_racing_creations_one_wins_and_its_content_stays(place: tuple[Storage, str]) -> None:
    storage, folder = place
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda number: storage.create(f"{folder}/file", b"%d" % number), range(16)))
    assert won.count(True) == 1
    assert storage.read(f"{folder}/file") == b"%d" % won.index(True)


def test_creating_what_is_there_already_with_equal_content_counts_as_ours(place: tuple[Storage, str]) -> None:
    storage, folder = place
    assert [storage.create(f"{folder}/file", data) for data in (b"same", b"same", b"else", b"sam")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_local_file_can_be_the_content(place: tuple[Storage, str], tmp_path: Path) -> None:
    storage, folder = place
    (tmp_path / "content").write_bytes(b"x" * (9 << 20))
    assert storage.create(f"{folder}/file", tmp_path / "content")
    assert storage.create(f"{folder}/file", tmp_path / "content")
    assert storage.read_range(f"{folder}/file", 9 << 20, 10 << 20) == b""
    assert sum(map(len, storage.blocks(f"{folder}/file", 0, 9 << 20))) == 9 << 20


def test_what_was_written_is_listed_read_and_deleted(place: tuple[Storage, str]) -> None:
    storage, folder = place
    assert storage.entries(folder) == []
    storage.write(f"{folder}/b", b"old")
    storage.write(f"{folder}/b", b"new")
    storage.write(f"{folder}/a", b"")
    assert [(entry.name, entry.size) for entry in storage.entries(folder)] == [("a", 0), ("b", 3)]
    storage.delete(f"{folder}/b")
    storage.delete(f"{folder}/b")
    assert [storage.exists(f"{folder}/{name}") for name in "ab"] == [True, False]
    with pytest.raises(FileNotFoundError):
        storage.read(f"{folder}/b")


def test_a_reader_seeks_and_reads_within_the_planned_size(place: tuple[Storage, str]) -> None:
    storage, folder = place
    storage.write(f"{folder}/file", bytes(range(100)))
    with storage.open(f"{folder}/file", 90) as file:
        assert (file.seek(-10, 2), file.read(), file.read(5)) == (80, bytes(range(80, 90)), b"")


def test_a_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AbortRun, match=r"cannot create .*file: OSError: .*No space left"):
        Storage().create(str(tmp_path / "file"), b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_creation_whose_answer_was_lost_is_recognised_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def create_and_lose_the_answer(path: Path, data: bytes) -> None:
        create_whole(path, data)
        calls.append(path)
        raise TimeoutError("no answer")

    monkeypatch.setattr("cluster.storage.storage.create_whole", create_and_lose_the_answer)
    assert Storage(pauses=(0,)).create(str(tmp_path / "file"), b"data")
    assert len(calls) == 1
    assert not Storage(pauses=(0,)).create(str(tmp_path / "file"), b"other")


def test_a_disk_without_hard_links_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("os.link", unsupported)
    with pytest.raises(AbortRun, match="no hard links"):
        Storage().create(str(tmp_path / "file"), b"data")


def failing(times: int, error: Exception) -> Callable[..., bytes]:
    left = [times]

    def cat_file(*_: Any, **__: Any) -> bytes:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return b"data"

    return cat_file


def test_transient_failures_are_repeated_and_then_a_reason_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(pauses=(0, 0))
    target = "fsspec.implementations.local.LocalFileSystem.cat_file"
    monkeypatch.setattr(target, failing(2, TimeoutError("slow")))
    assert storage.read("/x") == b"data"
    monkeypatch.setattr(target, failing(3, ConnectionResetError("reset")))
    with pytest.raises(RetryShard, match="cannot read /x: ConnectionResetError: reset"):
        storage.read("/x")


def test_hopeless_failures_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", failing(1, PermissionError("no")))
    with pytest.raises(AbortRun, match="PermissionError"):
        Storage(pauses=(60,)).read("/x")


class AnswerError(OSError):
    """What s3fs raises: a cause with the store's answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (PermissionError("no"), True),
        (ConfigError("bad"), True),
        (AnswerError("AccessDenied"), True),
        (SourceChanged("gone"), True),
        (AnswerError("SlowDown"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (OSError(errno.EIO, "disk"), False),
        (ZeroDivisionError(), False),
        (RetryShard("503"), False),
        (PromptError("wrong_type", "x"), False),
        (RowError("wrong_type", "x"), False),
    ],
)
def test_of_every_exception_it_is_known_whether_a_retry_may_heal_it(error: Exception, fatal: bool) -> None:
    assert is_fatal(error) is fatal


def test_secrets_are_struck_out_of_messages() -> None:
    options = {"key": "AKIA123456", "client_kwargs": {"token": "tok-987654"}, "endpoint_url": "http://127.0.0.1:1"}
    text = "AKIA123456 with tok-987654 at http://127.0.0.1:1"
    assert redact(text, options) == "*** with *** at http://127.0.0.1:1"


def test_an_unknown_filesystem_is_a_setting_error() -> None:
    with pytest.raises(ConfigError, match="no filesystem for nowhere://"):
        Storage().read("nowhere://x")


@pytest.mark.parametrize(
    ("url", "remedy"), [("gs://bucket/x", r"pip install 'lingua-batch\[gcs\]'"), ("s33://bucket/x", "did you mean s3")]
)
def test_a_filesystem_that_is_not_there_is_told_with_its_package_or_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, url: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match=remedy):
        Storage().read(url)


def test_missing_credentials_are_told_with_where_they_are_looked_for() -> None:
    class NoCredentialsError(Exception):
        """Named as botocore's."""

    def fail() -> None:
        raise NoCredentialsError("Unable to locate credentials")

    with pytest.raises(AbortRun, match=r"cannot read s3://b/x: .*AWS_ACCESS_KEY_ID .*LINGUA_STORAGE_OPTIONS"):
        Storage()._once("read", "s3://b/x", fail)


def test_a_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(AbortRun, match="there is a file where a directory is needed"):
        Storage().read(str(tmp_path / "file" / "_plan.json"))


def test_options_may_be_given_by_protocol(tmp_path: Path) -> None:
    storage = Storage({"s3": {"key": "abcdef", "secret": "ghijkl"}, "key": "other"})
    (tmp_path / "file").write_bytes(b"x")
    assert storage.read(str(tmp_path / "file")) == b"x"
    assert storage.resolve("s3://bucket/x")[0].key == "abcdef"


def test_a_missing_bucket_ends_the_run_at_once(s3: S3Bucket) -> None:
    with pytest.raises(AbortRun, match="no such bucket"):
        Storage(s3.storage_options, pauses=(60,)).create("s3://bucket-that-is-not-there/x", b"data")


def test_large_files_are_put_in_parts_under_the_same_condition(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.storage.storage.LARGE_PUT", 1 << 20)
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 << 20)
    storage = Storage(s3.storage_options)
    for name in ("mine", "theirs"):
        with (tmp_path / name).open("wb") as file:
            file.write(name.encode())
            file.truncate(11 << 20)
    assert storage.create(f"{s3.url}/file", tmp_path / "mine")
    assert not storage.create(f"{s3.url}/file", tmp_path / "theirs")
    assert storage.create(f"{s3.url}/file", tmp_path / "mine")
    assert storage.read_range(f"{s3.url}/file", 0, 4) == b"mine"
