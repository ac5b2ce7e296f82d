"""Names are names: whatever signs are in them, a file is read and written as that file, on disks and in S3."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.input.inputs import list_inputs
from cluster.output.ledger import Ledger
from cluster.output.verify import verify
from cluster.storage.storage import Storage, absolute
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import acquire_lease, job, run, write_lines
from tests.s3server import S3Bucket

NAMES = (
    *(
        "a::b",
        "a?b",
        "a?versionid=1",
        "a#b",
        "a%20b",
        "a%",
        "a&b=c+d",
        "a b",
        "a [v1]",
        "a*b",
        "a\\b",
        "~a",
        "a ",
        "-a",
    ),
    *("a\nb", "a{b,c}", "s3:a", "file:a", "zip::a", "é", "e\u0301", "a'\"b", "a$b", "@a@b"),
)


def rows_of(output: str) -> list[str]:
    return [row["text"] for row in pq.read_table(output).to_pylist()]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_and_an_output_of_any_name_on_a_disk_are_that_file_and_that_output(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / name
    folder.mkdir(parents=True)
    for decoy in ("a", "a b", "b", "ab"):  # what the name could be taken for
        write_lines(tmp_path / "in" / f"{decoy}.jsonl", [{"text": "wrong"}])
    file = write_lines(folder / f"{name}.jsonl", [{"text": f"of {name}"}])
    for number, given in enumerate((file, folder)):
        output = tmp_path / f"{number}" / name
        run(job(given, output))
        run(job(given, output))  # the second start finds the same plan
        assert rows_of(str(output)) == [f"of {name}"]
        assert verify(str(output)).problems == []
        assert sorted(path.name for path in output.parent.iterdir()) == [name]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("a\nb", "a?versionid=1")])
def test_the_same_in_an_object_store(s3: S3Bucket, name: str) -> None:
    for key in ("a", "a b", "b", "ab"):
        s3.files.pipe_file(f"{s3.url}/in/{key}.jsonl", b'{"text": "wrong"}\n')
    Storage(s3.storage_options).write(f"{s3.url}/in/{name}/{name}.jsonl", json.dumps({"text": name}).encode())
    for number, given in enumerate((f"{s3.url}/in/{name}/{name}.jsonl", f"{s3.url}/in/{name}")):
        output = f"{s3.url}/{number}/{name}"
        settings = {"storage_options": s3.storage_options, "output_format": "jsonl"}
        run(job(given, output, **settings))
        plan = run(job(given, output, **settings))
        ledger = Ledger(output, s3.storage_options)
        parts = [entry for entry in ledger.storage.entries(output) if entry.name.startswith("part-")]
        content = ledger.storage.read(f"{output}/{parts[0].name}")
        assert [plan.sources[0].path, json.loads(content)["text"]] == [f"{s3.url}/in/{name}/{name}.jsonl", name]
        assert verify(output, s3.storage_options).problems == []
        acquire_lease(Ledger(output, s3.storage_options), "test", 60).release()


def test_a_key_that_could_be_a_query_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^input: s3://bucket/a is followed.*; an object of that name: rename it$"):
        job("s3://bucket/a?token=abc.jsonl", "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://bucket/a?versionId=3", r"because of the '\?versionId=' in it; rename it"),
        ("abfs://c/a?versionid=3", r"because of the '\?versionid=' in it"),
        ("a\0b", "no file can be asked for by this name"),
        ("simplecache::s3://bucket/a.jsonl", "chained URLs .* are not read"),
        (b"caf\xe9.jsonl".decode("utf-8", "surrogateescape"), "the name is not UTF-8"),
        ("file://data/a.jsonl", "write file:///PATH with three slashes"),
    ],
)
def test_a_name_that_cannot_be_asked_for_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        absolute(name)


def test_an_object_with_a_version_in_its_name_is_refused_and_never_read_as_another(s3: S3Bucket) -> None:
    with pytest.raises(ConfigError, match="versionId"):
        Storage(s3.storage_options).write(f"{s3.url}/a?versionId=3.jsonl", b"{}")
    with pytest.raises(ConfigError, match="cannot stand for buckets"):
        list_inputs(["s3://*/a.jsonl"], Storage(s3.storage_options))


def test_a_filesystem_inside_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no filesystem for zip://"):
        list_inputs([f"zip://a.jsonl::{tmp_path}/a.zip"], Storage())


def test_a_file_in_a_folder_whose_name_is_no_text_is_told(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text('{"text": "b"}')
    with pytest.raises(ConfigError, match=r"caf\\udce9\.jsonl'?: the name is not UTF-8"):
        list_inputs([str(tmp_path)], Storage())


def test_relative_paths_mean_what_the_shell_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "~").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of")
    assert absolute("link/../a") == f"{tmp_path}/real/a"  # above the link's target, as for the system
    assert absolute("real/../a") == absolute("./a/") == absolute("real//..//./a") == f"{tmp_path}/a"
    assert absolute("~/a") == f"{tmp_path}/~/a"  # it is there
    (tmp_path / "~").rmdir()
    assert absolute("~/a") == "/home/of/a"
    assert absolute("file:///a%20b") == absolute("file://localhost/a%20b") == "/a%20b"
    assert absolute("file:a") == f"{tmp_path}/file:a"
    assert absolute("/..") == "/"


def test_a_submitted_job_needs_a_path_that_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError, match="copy of the working directory that Ray made"):
        absolute(str(copy / "out"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}')
    for settings in ({"input": "in.jsonl", "output": "/out"}, {"input": "/in.jsonl", "output": "out"}):
        with pytest.raises(ConfigError, match=r"a relative path, and a submitted job .* path that all nodes share"):
            list_inputs(JobConfig(**settings).inputs, Storage())
    with pytest.raises(ConfigError, match="a submitted job"):
        JobConfig(input="/in.jsonl", output="/out", reuse="earlier")
    assert JobConfig(input="s3://bucket/in", output="s3://bucket/out").output == "s3://bucket/out"
