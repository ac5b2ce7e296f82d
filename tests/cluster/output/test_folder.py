"""A run's folder: begun with one plan, held by one run; a directory counts when it is whole; on a disk and on S3."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun, LeaseError, PlanConflict
from cluster.output.folder import RunFolder
from cluster.output.lease import Lease
from lingua.errors import ConfigError
from tests.s3server import S3Bucket


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    if request.param == "disk":
        return RunFolder(str(tmp_path / "out"), "jobs.test")
    s3: S3Bucket = request.getfixturevalue("s3")
    return RunFolder(f"{s3.url}/out", "jobs.test", s3.storage_options)


def local(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def test_another_plan_is_refused_with_every_difference(folder: RunFolder) -> None:
    folder.begin({"epochs": 2, "model": "a", "seed": 1})
    folder.begin({"seed": 1, "model": "a", "epochs": 2})
    with pytest.raises(PlanConflict, match='begun otherwise: epochs was 2, now 3; model was "a", now null; mend it'):
        folder.begin({"epochs": 3, "seed": 1}, "mend it")


def test_a_folder_with_something_else_in_it_is_refused(folder: RunFolder) -> None:
    folder.create("part-0.parquet", b"")
    with pytest.raises(PlanConflict, match=r"holds part-0\.parquet and no _plan\.json"):
        folder.begin({})


def test_a_store_that_may_overwrite_what_is_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="ftp:// cannot create a file only if it is absent"):
        RunFolder("ftp://host/out", "jobs.test")


def test_a_damaged_plan_is_named(folder: RunFolder) -> None:
    folder.create("_plan.json", b"[")
    with pytest.raises(PlanConflict, match=r"_plan\.json is damaged"):
        folder.begin({})


def test_one_run_at_a_time_and_the_lease_is_given_back(folder: RunFolder) -> None:
    with folder.held(2), pytest.raises(LeaseError, match=r"in use by jobs\.test"), folder.held(2):
        pass
    with pytest.raises(KeyboardInterrupt), folder.held(60):
        raise KeyboardInterrupt
    with folder.held(60):
        pass


def test_a_lost_lease_ends_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Lease) -> None:
        raise LeaseError("taken over")

    monkeypatch.setattr(Lease, "renew", lost)
    with pytest.raises(AbortRun, match="taken over"), folder.held(0.04):
        time.sleep(0.2)


def test_a_value_is_computed_once(folder: RunFolder) -> None:
    assert folder.once("value.json", lambda: {"a": 1}) == {"a": 1}
    assert folder.once("value.json", lambda: pytest.fail("again")) == {"a": 1}


def test_a_directory_comes_back_as_it_was_and_counts_with_its_last_file(folder: RunFolder, tmp_path: Path) -> None:
    one = local(tmp_path / "one", **{"config.json": "{}", "a/b": "text"})
    folder.put("models/one", one, "config.json")
    folder.create("models/half/a", b"")
    assert folder.directories("models", "config.json") == ["one"]
    folder.get("models/one", tmp_path / "copy")
    assert {path.name: path.read_text() for path in (tmp_path / "copy").rglob("*") if path.is_file()} == {
        "config.json": "{}",
        "b": "text",
    }
    folder.drop("models/one", "config.json")
    folder.drop("models/none", "config.json")
    assert folder.directories("models", "config.json") == []
    assert not folder.exists("models/one")


def test_the_last_file_comes_last_and_goes_first(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(folder.storage, "create", lambda url, _: done.append(("put", url.rpartition("/")[2])))
    monkeypatch.setattr(folder.storage, "delete", lambda url: done.append(("drop", url.rpartition("/")[2])))
    folder.put("model", local(tmp_path / "one", z="", config="", a=""), "config")
    names = ["a", "z", "config"]
    assert done == [*(("drop", name) for name in reversed(names)), *(("put", name) for name in names)]


def test_the_lease_of_a_dead_run_is_waited_for(folder: RunFolder) -> None:
    Lease.acquire(folder.storage, folder.url, "jobs.test", 0.5)
    with folder.held(1) as lease:
        assert lease.generation == 2


def test_what_a_dead_attempt_left_is_removed_and_nothing_else(folder: RunFolder) -> None:
    for name in ("_tmp-1-x.json", "done/_tmp-2-y.json", "done/part.json"):
        folder.write(name, b"{}")
    folder.remove_temporary("", "done")
    assert folder.names("done") == {"part.json"}
    assert not any(name.startswith("_tmp") for name in folder.names())
