"""What inputs stand for: links, hidden names, other outputs, metadata; what is left out is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import AbortRun, SourceChanged
from cluster.input.cutting import plan_shards
from cluster.input.inputs import InputFiles, list_inputs
from cluster.input.shards import require_unchanged
from cluster.output.ledger import Ledger
from cluster.output.prepare import make_plan
from cluster.output.reuse import open_previous
from cluster.output.verify import verify
from cluster.report.dry_run import describe
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import DIGEST, job, run, write_lines
from tests.s3server import S3Bucket


def listed(folder: Path, pattern: str = "") -> InputFiles:
    return list_inputs([str(folder / pattern) if pattern else str(folder)], Storage())


def names(folder: Path, pattern: str = "") -> list[str]:
    return [str(Path(source.path).relative_to(folder)) for source in listed(folder, pattern).sources]


def fill(folder: Path, *paths: str) -> Path:
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_lines(folder / path, [{"text": path}] * (number + 1))
    return folder


# ---- hidden names

HIDDEN = ("a.jsonl", "_temporary/0/a.jsonl", "._a.jsonl", "_delta_log/0.json", "s/_rejects/r.jsonl", "s/b.jsonl")
RULES = {
    "": ["a.jsonl", "s/b.jsonl"],
    "**": ["a.jsonl", "s/b.jsonl"],
    "*": ["a.jsonl"],
    "**/*.jsonl": ["a.jsonl", "s/b.jsonl"],
    "*/*.jsonl": ["s/b.jsonl"],
    "*/*/*.jsonl": [],
    "?_a.jsonl": [],
    "[.]_a.jsonl": [],
    "._*": ["._a.jsonl"],
    "_temporary/**": ["_temporary/0/a.jsonl"],
    "_temp*/*/*": ["_temporary/0/a.jsonl"],
    "**/_rejects/*": ["s/_rejects/r.jsonl"],
    "*/_rejects/*.jsonl": ["s/_rejects/r.jsonl"],
    "_delta_log": ["_delta_log/0.json"],
}


@pytest.mark.parametrize("pattern", RULES)
def test_a_wildcard_never_stands_for_a_dot_or_underscore_at_the_beginning(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, *HIDDEN, ".ipynb_checkpoints/a-checkpoint.jsonl")
    if RULES[pattern]:
        assert names(tmp_path, pattern) == RULES[pattern]
    else:
        with pytest.raises(ConfigError, match="no file matches this pattern"):
            names(tmp_path, pattern)


def test_the_rule_is_the_same_in_an_object_store(s3: S3Bucket) -> None:
    for path in HIDDEN:
        s3.files.pipe_file(f"{s3.url}/in/{path}", b'{"text": "a"}\n{"text": "b"}\n')
    storage = Storage(s3.storage_options)
    for pattern, wanted in RULES.items():
        if wanted:
            found = list_inputs([f"{s3.url}/in/{pattern}".rstrip("/")], storage).sources
            assert [source.path.removeprefix(f"{s3.url}/in/") for source in found] == wanted, pattern
    assert list_inputs([f"{s3.url}/in"], storage).left_out == (
        "hidden names: 4 (._a.jsonl, _delta_log/, _temporary/, …)"
    )


def test_what_is_left_out_is_told_in_the_plan(tmp_path: Path) -> None:
    fill(tmp_path, *HIDDEN, "notes.txt")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jsonl"))
    told = {
        "hidden names: 4 (._a.jsonl, _delta_log/, _temporary/, …)",
        "links that lead nowhere: 2 (circle.jsonl, gone.jsonl)",
        "pipes, sockets or devices: 2 (pipe.jsonl, s.jsonl)",
        "files with another ending: 1 (notes.txt)",
    }
    config = job(tmp_path, tmp_path.parent / "out")
    plan = make_plan(config, DIGEST)
    assert set(str(plan.about["left_out"]).split("; ")) == told
    assert f"left out   {plan.about['left_out']}" in describe(config, plan, ())
    assert len(plan.sources) == 2
    with pytest.raises(ConfigError, match="is a link that leads nowhere"):
        listed(tmp_path, "gone.jsonl")
    with pytest.raises(ConfigError, match="pipe, a socket or a device"):
        listed(tmp_path, "pipe.jsonl")
    assert "folders, which a pattern reads with /** at its end: 1 (s)" in listed(tmp_path, "*").left_out


# ---- links


def test_links_to_files_and_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", "x", "deep/y.jsonl")
    data = fill(tmp_path / "data", "a.jsonl")
    (data / "b.jsonl").symlink_to(store / "x")
    (data / "more").symlink_to(store / "deep")
    (data / "again").symlink_to(data)
    (store / "deep" / "up").symlink_to(data)
    assert names(data) == names(data, "**/*.jsonl") == ["a.jsonl", "b.jsonl", "more/y.jsonl"]
    assert names(data, "*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert names(data, "more/*") == ["more/y.jsonl"]
    (source,) = list_inputs([str(data / "b.jsonl")], Storage()).sources
    assert source.size == (store / "x").stat().st_size
    write_lines(store / "x", [{"text": "another"}] * 9)
    with pytest.raises(SourceChanged):
        require_unchanged(source, Storage())
    (tmp_path / "root").symlink_to(data)
    assert names(tmp_path / "root") == ["a.jsonl", "b.jsonl", "more/y.jsonl"]


def test_a_pattern_through_a_link_finds_its_files_whatever_the_link_is_called(tmp_path: Path) -> None:
    fill(tmp_path, "v1/a.jsonl", "v2/a.jsonl")
    (tmp_path / "latest").symlink_to("v1")
    assert names(tmp_path, "**/latest/*.jsonl") == ["latest/a.jsonl"]
    assert names(tmp_path, "**/v1/*.jsonl") == ["v1/a.jsonl"]


def test_of_links_to_one_folder_every_process_follows_the_same(tmp_path: Path) -> None:
    fill(tmp_path, "v1/a.jsonl")
    for other in ("latest", "w", "x", "y", "z"):
        (tmp_path / other).symlink_to("v1")
    code = "import sys; from cluster.storage.listing import on_disk; print(*on_disk(sys.argv[1], ['**', '*']).files)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1


def test_a_folder_is_not_listed_where_a_pattern_names_what_it_wants_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "u1/export/a.jsonl", "u2/other/b.jsonl")
    scan = os.scandir

    def forbidden(path: str) -> Any:
        if Path(path).parent == tmp_path:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert names(tmp_path, "*/export/*.jsonl") == ["u1/export/a.jsonl"]


def test_names_that_look_alike_are_two_files(tmp_path: Path) -> None:
    fill(tmp_path, "\u00e9.jsonl", "e\u0301.jsonl", "A.jsonl", "a.jsonl")
    assert len(names(tmp_path)) == 4


def test_a_file_that_is_reached_by_two_names_counts_once_and_is_told(tmp_path: Path) -> None:
    fill(tmp_path, "v1/a.jsonl", "v1/b.jsonl")
    (tmp_path / "v1" / "c.jsonl").symlink_to("a.jsonl")
    os.link(tmp_path / "v1" / "b.jsonl", tmp_path / "v1" / "d.jsonl")
    (tmp_path / "w").symlink_to("v1")
    found = list_inputs([str(tmp_path / "v1"), str(tmp_path / "w" / "*"), str(tmp_path / "v1" / "a.jsonl")], Storage())
    assert [Path(source.path).name for source in found.sources] == ["a.jsonl", "b.jsonl"]
    assert found.left_out == "other names of the same files: 6 (c.jsonl, d.jsonl, a.jsonl, …)"


def test_links_among_many_folders_cost_no_more_than_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    scan = os.scandir

    def counted(path: object) -> object:
        looked.append(path)
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr("os.scandir", counted)
    work = []
    for count in (8, 16):
        top = fill(tmp_path / str(count), *(f"{one}/a.jsonl" for one in range(count)))
        for one in range(count):
            for other in range(count):
                (top / str(one) / f"to{other}").symlink_to(top / str(other))
        looked.clear()
        assert len(listed(top).sources) == count
        work.append(len(looked))
    assert work[1] <= 2.2 * work[0]


def test_an_output_behind_links_goes_on_and_is_whole(tmp_path: Path) -> None:
    fill(tmp_path, "in.jsonl")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    run(job(tmp_path / "in.jsonl", tmp_path / "out"))
    (part,) = (tmp_path / "disk").glob("part-*")
    part.rename(tmp_path / "moved")
    part.symlink_to(tmp_path / "moved")
    ledger = Ledger(str(tmp_path / "out"))
    assert len(ledger.committed()) == 1
    assert verify(str(tmp_path / "out")).problems == []
    (tmp_path / "moved").unlink()
    assert ledger.committed() == set()
    with pytest.raises(AbortRun, match="a link of that name leads nowhere; remove or mend it"):
        run(job(tmp_path / "in.jsonl", tmp_path / "out"))


def test_an_object_that_two_inputs_name_counts_once(s3: S3Bucket) -> None:
    s3.files.pipe_file(f"{s3.url}/in/a.jsonl", b'{"text": "a b"}\n')
    given = [f"{s3.url}/in", f"{s3.url}/in/a.jsonl", f"{s3.url}/i*/*", f"{s3.url}/in/".replace("s3://", "s3a://")]
    for order in (given, given[::-1]):
        assert len(list_inputs(order, Storage(s3.storage_options)).sources) == 1


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_a_folder_or_file_that_may_not_be_looked_at_is_told_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    fill(tmp_path, "a.jsonl", "closed/b.jsonl")
    real = getattr(os, call)

    def guarded(path: object, *rest: object, **named: object) -> object:
        if str(path).endswith("closed" if call == "scandir" else "b.jsonl"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, call, guarded)
    with pytest.raises(AbortRun, match=r"cannot list .*closed"):
        listed(tmp_path)


# ---- outputs, metadata


@pytest.mark.parametrize("pattern", ["", "**/*.*", "*/*"])
def test_an_output_inside_its_input_is_left_out_and_goes_on(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, "s/a.jsonl")
    given = tmp_path / pattern if pattern else tmp_path
    run(job(tmp_path / "s", tmp_path / "older"))
    for _ in range(2):
        plan = run(job(given, tmp_path / "shorter"))
        assert [Path(source.path).name for source in plan.sources] == ["a.jsonl"]
    assert verify(str(tmp_path / "shorter")).problems == []
    (tmp_path / "s" / "back.parquet").symlink_to(next((tmp_path / "shorter").glob("part-*")))  # its own part again
    assert len(make_plan(job(given, tmp_path / "shorter"), DIGEST).sources) == 1
    assert "files of outputs of this job: 1 (older/part-" in str(plan.about["left_out"])
    assert len(list_inputs([str(tmp_path / "older")], Storage()).sources) == 1  # named, an output is an input
    assert len(list_inputs([str(tmp_path / "older" / "part-*")], Storage()).sources) == 1


@pytest.mark.parametrize("given", ["out", "out/*.jsonl", "out/sub", "out/sub/a.jsonl", "link", "out/../out/sub/*"])
def test_an_input_inside_the_output_is_refused_at_once(tmp_path: Path, given: str) -> None:
    fill(tmp_path, "out/sub/a.jsonl", "out/b.jsonl")
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(ConfigError, match=r"lies in the output .*/out, whose own files would become its input"):
        make_plan(job(f"{tmp_path}/{given}", tmp_path / "out"), DIGEST)


def test_the_same_holds_in_an_object_store(s3: S3Bucket) -> None:
    s3.files.pipe_file(f"{s3.url}/in/a.jsonl", b'{"text": "a b"}\n')
    settings = {"storage_options": s3.storage_options}
    for _ in range(2):
        plan = run(job(f"{s3.url}/in", f"{s3.url}/in/shorter", **settings))
        assert [source.path for source in plan.sources] == [f"{s3.url}/in/a.jsonl"]
    assert len(run(job(f"{s3.url}/in", f"{s3.url}/other", **settings)).sources) == 1
    with pytest.raises(ConfigError, match="lies in the output"):
        make_plan(job(f"{s3.url}/in/shorter/*", f"{s3.url}/in/shorter", **settings), DIGEST)


def test_metadata_beside_data_is_no_input_and_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    (tmp_path / "anything.json").write_text('{\n  "indented": 1\n}')
    assert names(tmp_path) == ["a.parquet"]
    assert listed(tmp_path).left_out == "files of metadata: 2 (anything.json, dataset_infos.json)"
    (tmp_path / "dataset_infos.json").write_text(json.dumps({"features": "x" * 300_000}))  # longer than HEAD
    assert names(tmp_path) == ["a.parquet"]
    write_lines(tmp_path / "rows.json", [{"text": "b" * 300_000}, {"text": "c"}])  # rows under the same ending are rows
    assert names(tmp_path) == ["a.parquet", "rows.json"]
    fill(tmp_path / "lines", "a.jsonl")
    (tmp_path / "lines" / "state.json").write_text('{"_fingerprint": "1"}')
    (tmp_path / "lines" / "one-row.json").write_text('{"text": "one"}')
    assert names(tmp_path / "lines") == ["a.jsonl", "one-row.json"]


# ---- brackets, files that go away


def test_a_name_with_brackets_is_that_name_before_it_is_a_pattern(tmp_path: Path) -> None:
    fill(tmp_path, "d [v1]/a.jsonl", "d [v1]/b[1].jsonl", "d v/a.jsonl", "d [v1]/b1.jsonl")
    assert names(tmp_path, "d [v1]") == ["d [v1]/a.jsonl", "d [v1]/b1.jsonl", "d [v1]/b[1].jsonl"]
    assert names(tmp_path, "d [v1]/a*") == ["d [v1]/a.jsonl"]
    assert names(tmp_path, "**/d [v1]/a*") == ["d [v1]/a.jsonl"]
    assert names(tmp_path, "d [v1]/b[1].jsonl") == ["d [v1]/b[1].jsonl"]
    assert names(tmp_path, "d [v1]/b[12].jsonl") == ["d [v1]/b1.jsonl"]
    assert names(tmp_path, "d [uv]/*") == ["d v/a.jsonl"]


def test_reuse_takes_the_exact_name_before_a_pattern(tmp_path: Path) -> None:
    fill(tmp_path, "in.jsonl")
    for name in ("snap [v1]", "snap v"):
        output = tmp_path / name
        run(job(tmp_path / "in.jsonl", output))
        Ledger(str(output)).write_stats({"complete": True})
    for given, wanted in (("snap [v1]", "snap [v1]"), ("snap [uv]", "snap v"), ("snap*", "snap v")):
        previous = open_previous(job(tmp_path / "in.jsonl", tmp_path / "new", reuse=str(tmp_path / given)), DIGEST)
        assert previous is not None
        assert Path(previous.ledger.url).name == wanted


def test_a_file_that_goes_away_after_it_was_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jsonl")
    sources = list_inputs([str(tmp_path)], Storage()).sources
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SourceChanged, match=r"a\.jsonl: was there when the inputs were listed, and is gone now"):
        plan_shards(sources, 1024, Storage())


def test_words_that_the_shell_made_of_a_pattern_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl", "b.jsonl")
    argv = ["--input", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--output", "out"]
    with pytest.raises(ConfigError, match=r"quote it, like --input '.*/\*\.jsonl'"):
        JobConfig.load(argv, {})
