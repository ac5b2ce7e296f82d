"""Planted faults, one by one: each has one outcome, and none loses, doubles or falsifies a row."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import AbortRun, DamagedFile, LeaseError, PlanConflict, RetryShard, SourceChanged, SourceUnusable
from cluster.input.reader import read_rows
from cluster.output.ledger import Ledger
from cluster.output.parts import PartWriter
from cluster.output.plan import Plan
from cluster.output.records import Record
from cluster.output.verify import verify
from cluster.protocol import Assignment, Failure, ShardReport
from cluster.report.statistics import RunReport
from cluster.run.driver import Driver, Terms
from cluster.run.retry import RetryPolicy
from cluster.run.worker import Worker
from cluster.stopping import StopRequest
from cluster.storage.local import Scratch, replace_whole
from cluster.storage.storage import Entry, Storage
from tests.cluster.jobs_for_tests import (
    DIGEST,
    acquire_lease,
    job,
    open_plan,
    outcome_of,
    rejects,
    run,
    run_shard,
    write_lines,
)
from tests.fakes import REJECT, FakeCompressor
from tests.pools import Clock, InProcessPool, Runner

ROWS = [{"id": n, "text": REJECT if n % 17 == 5 else f"row {n} has a few words"} for n in range(120)]


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    """A job of several shards, some rows of which are rejected."""
    return job(write_lines(tmp_path / "rows.jsonl", ROWS), tmp_path / "out", shard_size=2048)


def worker_of(config: JobConfig, plan: Plan) -> Worker:
    return Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor())


def drive(config: JobConfig, ledger: Ledger | None = None, stop: StopRequest | None = None) -> RunReport:
    """One start of the job without its lease."""
    ledger = ledger or Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    return drive_with(worker_of(config, plan), ledger, plan, stop)


def drive_with(runner: Runner, ledger: Ledger, plan: Plan, stop: StopRequest | None = None) -> RunReport:
    clock = Clock()
    pool, terms = InProcessPool(runner, clock), Terms(RetryPolicy(max_attempts=2, pause=0.1))
    return Driver(ledger, pool, terms, stop=stop or StopRequest(), clock=clock).run(plan.shards)


def require_whole(config: JobConfig) -> None:
    audit = verify(config.output)
    assert (audit.problems, audit.rows, audit.rejected) == ([], len(ROWS), 7)


def ids(config: JobConfig) -> list[int]:
    parts = sorted(Path(config.output).glob("part-*"))
    return [n for part in parts for n in pq.read_table(part, partitioning=None)["id"].to_pylist()]


KEPT = [row["id"] for row in ROWS if row["text"] != REJECT]


# ---- leases


def acquire_with_clock(ledger: Ledger, ahead: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lease of a driver whose clock is that many seconds ahead."""
    import time

    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("cluster.output.lease.time.time", lambda: now + ahead)
        return acquire_lease(ledger, f"clock {ahead:+g} s", 60)


def test_a_holder_whose_clock_is_far_behind_is_overtaken_and_nothing_is_doubled(
    config: JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(config.output)
    slow = acquire_with_clock(ledger, -600, monkeypatch)
    heir = acquire_lease(ledger, "right clock", 60)
    plan = open_plan(config, DIGEST, ledger)
    worker = worker_of(config, plan)
    first = [worker.attempt(Assignment(shard)) for shard in plan.shards]  # both work until the first is told
    assert {report.outcome for report in first if isinstance(report, ShardReport)} == {"committed"}
    assert drive(config).complete
    with pytest.raises(LeaseError, match="taken over by right clock"):
        slow.renew()
    heir.renew()
    assert ids(config) == KEPT
    require_whole(config)


def test_a_holder_whose_clock_is_ahead_keeps_its_lease_longer_and_others_are_told_until_when(
    config: JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(config.output)
    fast = acquire_with_clock(ledger, 3600, monkeypatch)
    with pytest.raises(LeaseError, match=r"in use by clock \+3600 s .*until 20\d\d-.* its lease runs out"):
        acquire_lease(ledger, "right clock", 60)
    fast.release()
    acquire_lease(ledger, "right clock", 60).release()


class LosesItsLease:
    """A worker whose driver's lease is taken over, and everything done by the heir, while a shard is in flight."""

    def __init__(self, config: JobConfig, plan: Plan, stop: StopRequest) -> None:
        self.config, self.stop, self.worker, self.taken = config, stop, worker_of(config, plan), False

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        if not self.taken:
            self.taken = True
            self.stop.ask("the lease was lost")
            assert drive(self.config).complete
        return self.worker.attempt(assignment)


def test_a_lease_that_is_lost_with_shards_in_flight_doubles_nothing(config: JobConfig) -> None:
    ledger, stop = Ledger(config.output), StopRequest()
    plan = open_plan(config, DIGEST, ledger)
    report = drive_with(LosesItsLease(config, plan, stop), ledger, plan, stop)
    assert (report.complete, report.stopped) == (False, "the lease was lost")
    assert ids(config) == KEPT
    require_whole(config)


def test_a_worker_that_commits_after_its_driver_died_and_another_finished_changes_nothing(config: JobConfig) -> None:
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    shard, compressor = plan.shards[0], FakeCompressor()
    with PartWriter(plan, shard) as writer:
        for item in read_rows(shard, plan.columns, ledger.storage):
            writer.add(item, outcome_of(plan, item, compressor))
        late = writer.finish()
        assert drive(config).complete
        before = {path: path.read_bytes() for path in Path(config.output).rglob("*") if path.is_file()}
        ledger.clean()
        assert ledger.commit(plan, shard, late, 0.1) == "committed"  # the same bytes: its own, as far as it can tell
    after = {path: path.read_bytes() for path in Path(config.output).rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {
        path for path in after if path.parent.name == "_records"
    }
    require_whole(config)


# ---- the disk


@pytest.mark.parametrize("file", ["part", "rejects"])
@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_a_full_disk_ends_the_run_with_its_reason_and_leaves_nothing(
    config: JobConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, output_format: str
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    config = replace_settings(config, output_format=output_format)
    scratches = tmp_path / "scratch"
    scratches.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratches))
    make = Scratch.__init__

    def on_a_full_disk(self: Scratch) -> None:
        make(self)
        (self.path / file).symlink_to("/dev/full")

    monkeypatch.setattr(Scratch, "__init__", on_a_full_disk)
    with pytest.raises(AbortRun, match="the disk for unfinished parts is full"):
        drive(config)
    assert Ledger(config.output).committed() == set()
    assert list(scratches.iterdir()) == []
    monkeypatch.setattr(Scratch, "__init__", make)
    assert drive(config).complete
    require_whole(config)


def replace_settings(config: JobConfig, **settings: Any) -> JobConfig:
    return JobConfig(**{**config.model_dump(by_alias=True, exclude={"compression"}), **settings})


@pytest.mark.parametrize("place", ["out", "out/_records", "out/_rejects"])
def test_a_file_where_a_folder_is_needed_is_named(config: JobConfig, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("in the way")
    with pytest.raises(AbortRun, match=rf"{place}.*(there is a file where a directory is needed|Not a directory)"):
        drive(config)


def test_a_temporary_file_that_is_swept_away_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, swept = os.fsync, []

    def sweep(number: int) -> None:
        sync(number)
        if not swept:
            swept.extend(tmp_path.glob("_tmp-*"))
            swept[0].unlink()

    monkeypatch.setattr("os.fsync", sweep)
    with pytest.raises(RetryShard, match="clean-up"):
        replace_whole(tmp_path / "file", b"data")
    swept.clear()
    Storage(pauses=(0,)).write(str(tmp_path / "file"), b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


# ---- what lies beside the parts


def test_a_record_that_is_deleted_comes_back_with_the_next_start(config: JobConfig) -> None:
    assert drive(config).complete
    records = sorted(Path(config.output).glob("_records/*.json"))
    rows = json.loads(records[0].read_text())["rows"]
    records[0].unlink()
    report = drive(config)
    assert (report.complete, report.this_run.shards, report.this_run.rows) == (True, 1, rows)
    assert sorted(Path(config.output).glob("_records/*.json")) == records
    require_whole(config)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"[1]", b'{"rows": "many"}', b"\xff\xfe{}"])
def test_a_record_that_is_damaged_is_told_with_its_remedy(config: JobConfig, content: bytes) -> None:
    assert drive(config).complete
    record = min(Path(config.output).glob("_records/*.json"))
    record.write_bytes(content)
    remedy = rf"{record.name} is damaged: .*; delete it and .*/{record.name.partition('.')[0]}\.\*, and the next start"
    with pytest.raises(DamagedFile, match=remedy):
        drive(config)
    (problem,) = verify(config.output).problems
    assert re.search(remedy, problem)
    next(Path(config.output).glob(f"{record.name.partition('.')[0]}.parquet")).unlink()
    record.unlink()
    assert drive(config).complete
    require_whole(config)


def test_a_part_that_is_cut_by_hand_is_found_and_made_again_once_deleted(config: JobConfig) -> None:
    assert drive(config).complete
    part = min(Path(config.output).glob("part-*"))
    part.write_bytes(part.read_bytes()[:-50])
    told = rf"{part} is damaged: it has [\d,]+ bytes and had [\d,]+ when it was committed; delete what"
    with pytest.raises(DamagedFile, match=told):
        drive(config)
    (problem,) = verify(config.output).problems
    assert "differs from its commit record" in problem
    part.unlink()
    assert drive(config).this_run.shards == 1
    require_whole(config)


def test_a_part_that_a_worker_of_a_replaced_plan_committed_is_told(config: JobConfig) -> None:
    assert drive(config).complete
    (path, *_) = sorted(Path(config.output).glob("_records/*.json"))
    stale = replace(Record.from_bytes(path.read_bytes()), identity="0" * 16)
    path.write_bytes(stale.to_bytes())
    with pytest.raises(DamagedFile, match=rf"{stale.shard.name}\.parquet was committed by a worker of another plan"):
        drive(config)


def test_a_part_of_which_a_byte_was_changed_is_for_the_audit(config: JobConfig) -> None:
    assert drive(config).complete
    part = min(Path(config.output).glob("part-*"))
    data = part.read_bytes()
    part.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
    assert drive(config).this_run.shards == 0  # a start looks at names and sizes
    (problem,) = verify(config.output).problems
    assert "differs from its commit record" in problem


def forged(plan: Path, change: Callable[[dict[str, Any]], None], seal: bool) -> None:
    """Change the plan, and with `seal` its digest too."""
    content = json.loads(plan.read_text())
    change(content)
    if seal:
        content.pop("digest")
        content["digest"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    plan.write_text(json.dumps(content))


def shift_a_shard(content: dict[str, Any]) -> None:
    content["shards"][1][2] += 7


def drop_the_last_shard(content: dict[str, Any]) -> None:
    content["shards"].pop()


def double_a_shard(content: dict[str, Any]) -> None:
    content["shards"].append(content["shards"][0])


def leave_the_output(content: dict[str, Any]) -> None:
    content["shards"][0][0] = "../../elsewhere"


def name_another_ending(content: dict[str, Any]) -> None:
    content["output_format"] = "/../x"


@pytest.mark.parametrize(
    ("change", "seal"),
    [
        (shift_a_shard, False),
        (drop_the_last_shard, False),
        (double_a_shard, True),
        (leave_the_output, True),
        (name_another_ending, True),
    ],
)
def test_a_plan_that_was_changed_is_refused_and_nothing_is_written(
    config: JobConfig, change: Callable[[dict[str, Any]], None], seal: bool
) -> None:
    plan = open_plan(config, DIGEST, Ledger(config.output))
    run_shard(plan, plan.shards[0], Ledger(config.output))
    forged(Path(config.output) / "_plan.json", change, seal)
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")}
    with pytest.raises(PlanConflict, match=r"_plan\.json is damaged"):
        drive(config)
    assert {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")} == before


# ---- inputs


class ReplacesTheInput:
    """A worker whose input is replaced by other rows of the same size after its first shard."""

    def __init__(self, config: JobConfig, plan: Plan, keep_time: bool) -> None:
        self.worker, self.path, self.keep_time = worker_of(config, plan), Path(config.inputs[0]), keep_time
        self.attempts = 0

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        self.attempts += 1
        if self.attempts == 2:
            before = self.path.stat()
            self.path.write_bytes(self.path.read_bytes().replace(b"words", b"sword"))
            if self.keep_time:
                os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return self.worker.attempt(replace(assignment, upcoming=None))


def test_an_input_that_is_replaced_by_one_of_the_same_size_ends_the_run(config: JobConfig) -> None:
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    with pytest.raises(AbortRun, match=r"rows\.jsonl: planned with \d+ bytes \(mtime.*now \d+ bytes"):
        drive_with(ReplacesTheInput(config, plan, keep_time=False), ledger, plan)
    assert len(ledger.committed()) == 1
    with pytest.raises(PlanConflict, match=r"rows\.jsonl had \d+ bytes"):
        drive(config)


def test_an_input_replaced_behind_the_back_of_size_and_time_is_found_by_the_audit(config: JobConfig) -> None:
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    assert drive_with(ReplacesTheInput(config, plan, keep_time=True), ledger, plan).complete
    problems = verify(config.output).problems
    assert problems
    assert all("its columns differ from the input's" in problem for problem in problems)


def test_two_inputs_that_are_one_file_count_once_and_equal_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "rows.jsonl", [{"id": folder, "text": "the same words"}])
    inputs = [tmp_path / "a", tmp_path / "a" / "rows.jsonl", tmp_path / "*" / "rows.jsonl"]
    config = job(inputs, tmp_path / "out")
    assert drive(config).complete
    assert sorted(ids(config)) == ["a", "b"]


class ShortAnswers(Storage):
    """A store that now and then answers a range with fewer bytes than it has."""

    calls = 0

    def read_range(self, url: str, start: int, end: int) -> bytes:
        self.calls += 1
        data = super().read_range(url, start, end)
        return data[: len(data) // 2] if self.calls % 5 == 3 else data


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_short_answer_is_a_storage_fault_and_never_the_end_of_the_rows(tmp_path: Path, ending: str) -> None:
    rows = [{"text": f"row {n} has a few words"} for n in range(50)]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    if ending == "parquet":
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    plan = open_plan(job(path, tmp_path / "out", shard_size=1024), DIGEST, Ledger(str(tmp_path / "out")))
    storage, seen = ShortAnswers(), 0
    for shard in plan.shards:
        for _ in range(10):
            try:
                seen += len(read_all(shard, plan, storage))
                break
            except RetryShard as error:
                assert "bytes came from byte" in str(error)  # noqa: PT017 - most attempts succeed
    assert seen == len(rows)


def read_all(shard: Any, plan: Plan, storage: Storage) -> list[Any]:
    return list(read_rows(shard, plan.columns, storage))


# ---- listings


class LaggingStorage(Storage):
    """A store whose listings do not show the newest files, and still show deleted ones."""

    def __init__(self, lag: int) -> None:
        super().__init__()
        self.lag, self.deleted = lag, []  # type: ignore[var-annotated]

    def entries(self, folder: str) -> list[Entry]:
        found = super().entries(folder)
        newest = sorted(found, key=lambda entry: (Path(folder) / entry.name).stat().st_mtime_ns)[-self.lag :]
        ghosts = [Entry(url.rpartition("/")[2], 1) for url in self.deleted if url.rpartition("/")[0] == folder]
        return sorted([*(entry for entry in found if entry not in newest), *ghosts], key=lambda entry: entry.name)

    def delete(self, url: str) -> None:
        super().delete(url)
        self.deleted.append(url)


@pytest.mark.parametrize("lag", [1, 3, 100])
def test_a_listing_that_lags_costs_work_and_no_row(config: JobConfig, lag: int) -> None:
    ledger = Ledger(config.output)
    ledger.storage = LaggingStorage(lag)
    for _ in range(3):
        lease = acquire_lease(ledger, "test", 60)
        ledger.clean()
        report = drive(config, ledger)
        assert not report.given_up
        lease.renew()
        ledger.clean()
        lease.release()
    assert ids(config) == KEPT
    require_whole(config)


def test_a_part_that_vanishes_while_a_finished_run_begins_is_no_endless_wait(config: JobConfig) -> None:
    assert drive(config).complete
    min(Path(config.output).glob("part-*")).unlink()
    ledger, plan = Ledger(config.output), open_plan(config, DIGEST, Ledger(config.output))
    with pytest.raises(AbortRun, match="start the same command again"):
        Driver(ledger, None, Terms(), stop=StopRequest()).run(plan.shards)


def test_a_changed_input_is_an_abort_and_not_a_retry() -> None:
    assert issubclass(SourceChanged, AbortRun)


def test_two_parquet_columns_of_one_name_are_told_before_the_run(tmp_path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, ["text", "text"]), tmp_path / "rows.parquet")
    with pytest.raises(SourceUnusable, match=r"rows\.parquet: two columns are called 'text'; rename one"):
        open_plan(job(tmp_path / "rows.parquet", tmp_path / "out"), DIGEST, Ledger(str(tmp_path / "out")))


def test_a_row_with_a_result_columns_name_is_rejected_where_objects_pass_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.output.prepare.SAMPLED_BYTES", 1)  # the sample does not show it
    rows = write_lines(tmp_path / "rows.jsonl", [{"text": "a b c"}, {"text": "d e f", "rate": 1}])
    run(job(rows, tmp_path / "out", output_format="jsonl"))
    assert [(row["row"], row["reason"]) for row in rejects(tmp_path / "out")] == [(1, "name_collision")]
