"""Outputs that go on with more: new files of their inputs, and rejected rows that are tried again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import DamagedFile, PlanConflict
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import draft_plan
from cluster.output.reuse import open_previous
from cluster.output.verify import verify
from cluster.report.dry_run import describe, reusable
from cluster.report.page import gather
from cluster.report.statistics import RunReport, facts
from cluster.run.driver import Driver, RejectCeiling, Terms
from cluster.run.worker import Worker
from cluster.stopping import StopRequest
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from lingua.prompt import Outcome, Prompt, Rejected
from tests.cluster.jobs_for_tests import DIGEST, acquire_lease, job, rejects, write_lines
from tests.fakes import REJECT, FakeCompressor
from tests.pools import Clock, InProcessPool
from tests.s3server import S3Bucket

ROWS = 40
CURABLE = "please-wait"
"""In a prompt: it is rejected until what is wrong has gone."""


class Ailing(FakeCompressor):
    """Rejects what is curable, too."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        for prompt in prompts:
            (outcome,) = self.compress([prompt]) if CURABLE not in prompt.text else (Rejected("too_long", "as yet"),)
            yield outcome

    def compress(self, prompts: Iterable[Prompt]) -> list[Outcome]:
        return list(FakeCompressor().stream(prompts))


def rows(first: int, count: int = ROWS) -> list[dict[str, Any]]:
    """Rows of which one in ten is rejected for ever, and one in ten until what is wrong has gone."""
    marks = {3: REJECT, 7: CURABLE}
    return [{"id": n, "text": f"{marks.get(n % 10, 'row')} {n} has a few words"} for n in range(first, first + count)]


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    """A job of several shards over a glob that one file fits so far."""
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "b.jsonl", rows(0))
    return job(f"{tmp_path}/in/*.jsonl", tmp_path / "out", shard_size=1024)


def again(config: JobConfig, resume: str) -> JobConfig:
    return JobConfig(**{**config.model_dump(by_alias=True, exclude={"compression"}), "resume": resume})


def start(config: JobConfig, compressor: FakeCompressor | None = None, ledger: Ledger | None = None) -> RunReport:
    """One start of the job, in the order of `jobs.compress`."""
    ledger = ledger or Ledger(config.output, config.storage_options)
    plan = draft_plan(config, DIGEST, ledger)
    return carry_out(plan, config, compressor or FakeCompressor(), ledger)


def carry_out(plan: Plan, config: JobConfig, compressor: FakeCompressor, ledger: Ledger) -> RunReport:
    acquire_lease(ledger, "test", -1)  # it has run out already: a start after a kill need not wait
    plan, clock = ledger.open_or_create(plan), Clock()
    ledger.clean()
    ledger.set_aside(plan.retried)
    worker = Worker(config, replace(plan, shards=(), sources=()), lambda _: compressor)
    worker._ledger.storage = ledger.storage
    pool, terms = InProcessPool(worker, clock), Terms(ceiling=RejectCeiling(share=1.0))
    report = Driver(ledger, pool, terms, stop=StopRequest(), clock=clock).run(plan.shards)
    ledger.write_stats(report.as_json(facts(config, plan)))
    ledger.set_aside(plan.retried)
    return report


def outcomes(config: JobConfig) -> list[int]:
    """The id of every row of a part, and of every reject that stands, sorted: one twice is in there twice."""
    parts = Path(config.output).glob("part-*")
    kept = [row["id"] for part in parts for row in pq.read_table(part, partitioning=None).to_pylist()]
    return sorted([*kept, *(int(reject["raw"].split()[2]) for reject in rejects(config.output))])


def parts(config: JobConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(config.output).glob("part-*")}


def require_whole(config: JobConfig, count: int, rejected: int) -> None:
    """Each row has one outcome; audit, statistics and rejects agree on it."""
    assert outcomes(config) == list(range(count))
    audit, told = verify(config.output), Ledger(config.output).statistics()
    assert (audit.problems, audit.rows, audit.rejected) == ([], count, rejected)
    assert (told["complete"], told["rows"], told["statuses"]["rejected"]) == (True, count, rejected)
    assert sum(told["statuses"].values()) == count
    assert sum(told["rejects"].values()) == len(rejects(config.output)) == rejected


# ---- inputs that grow


def test_a_grown_input_keeps_its_old_shards(config: JobConfig, tmp_path: Path) -> None:
    assert start(config, Ailing()).complete
    before, planned = parts(config), Ledger(config.output).plan()
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))  # before the old one by name
    report = start(again(config, "grow"), Ailing())
    assert (report.complete, report.this_run.rows, report.total.rows) == (True, ROWS, 2 * ROWS)
    assert before.items() <= parts(config).items()
    require_whole(config, 2 * ROWS, 16)
    plan = Ledger(config.output).plan()
    assert planned
    assert plan
    assert plan.shards[: len(planned.shards)] == planned.shards
    assert [line.partition(": ")[2] for line in plan.history] == ["1 new file in 2 shards"]
    assert "extended   " in describe(config, plan, ())


def test_without_the_flag_a_new_file_is_refused_with_what_takes_it_in(config: JobConfig, tmp_path: Path) -> None:
    start(config)
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    with pytest.raises(PlanConflict, match=r"a\.jsonl is new \(--resume grow takes it in\)"):
        start(config)


def test_a_grown_output_goes_on_with_and_without_the_flag(config: JobConfig, tmp_path: Path) -> None:
    start(again(config, "grow"))  # which also begins an output
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    start(again(config, "grow"))
    assert (start(config).this_run.shards, start(again(config, "grow")).this_run.shards) == (0, 0)
    write_lines(tmp_path / "in" / "c.jsonl", rows(2 * ROWS))
    start(again(config, "grow"))
    require_whole(config, 3 * ROWS, 12)
    assert sorted(path.name for path in Path(config.output).glob("_plans/*")) == ["000002.json", "000003.json"]


def test_an_unfinished_output_grows_too(config: JobConfig, tmp_path: Path) -> None:
    start(config)
    min(Path(config.output).glob("part-*")).unlink()
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    start(again(config, "grow"))
    require_whole(config, 2 * ROWS, 8)


def test_an_output_of_which_nothing_is_committed_is_planned_anew(config: JobConfig, tmp_path: Path) -> None:
    Ledger(config.output).open_or_create(draft_plan(config, DIGEST, Ledger(config.output)))
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    start(again(config, "grow"))
    assert list(Path(config.output).glob("_plans/*")) == []
    require_whole(config, 2 * ROWS, 8)


@pytest.mark.parametrize(("change", "message"), [("changed", "b.jsonl had"), ("gone", "b.jsonl is not among")])
def test_an_old_file_that_changed_or_went_is_refused_by_name(
    config: JobConfig, tmp_path: Path, change: str, message: str
) -> None:
    start(config)
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    old = tmp_path / "in" / "b.jsonl"
    old.unlink() if change == "gone" else write_lines(old, rows(0, 3))
    with pytest.raises(PlanConflict, match=message):
        start(again(config, "grow"))
    assert len(parts(config)) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a b c"], "id": [1.5]}, r"holds all of its 'id' \(double\)"),
        ({"text": ["a b c"], "id": [1], "new": [1]}, r"holds all of its 'new' \(int64\)"),
        ({"id": [1]}, "has no column 'text'"),
        ({"text": ["a b c"], "id": pa.array([1], pa.int32())}, None),
        ({"text": pa.array(["a b c"], pa.large_string()), "id": [None]}, r"its 'text' \(large_string\)"),
        ({"text": pa.array(["a b c"], pa.string_view()), "id": [None]}, None),
        ({"text": ["a b c"]}, None),
    ],
)
def test_a_new_file_must_fit_the_columns_of_the_output(
    tmp_path: Path, columns: dict[str, Any], message: str | None
) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"text": ["a b c d"], "id": [1]}), tmp_path / "in" / "a.parquet")
    config = job(f"{tmp_path}/in/*", tmp_path / "out")
    start(config)
    pq.write_table(pa.table(columns), tmp_path / "in" / "b.parquet")
    if message is None:
        assert start(again(config, "grow")).total.rows == 2
        assert verify(config.output).problems == []
        return
    with pytest.raises(ConfigError, match=rf"b\.parquet.*{message}"):
        start(again(config, "grow"))


def test_other_kinds_of_files_are_refused_where_the_columns_are_of_one(config: JobConfig, tmp_path: Path) -> None:
    start(config)
    every = JobConfig(input=f"{tmp_path}/in/**", output=config.output, model="fake", shard_size=1024, resume="grow")
    pq.write_table(pa.table({"text": ["a b c d"], "id": [1]}), tmp_path / "in" / "c.parquet")
    with pytest.raises(ConfigError, match=r"c\.parquet: is Parquet, and the output was planned for JSON Lines alone"):
        start(every)
    (tmp_path / "in" / "c.parquet").unlink()
    (tmp_path / "in" / "day=2").mkdir()
    write_lines(tmp_path / "in" / "day=2" / "d.jsonl", rows(ROWS))
    with pytest.raises(ConfigError, match="the name of its folder gives a column 'day'"):
        start(every)


# ---- rejected rows again


def test_rejected_rows_that_succeed_now_become_rows_and_the_others_stay_rejects(config: JobConfig) -> None:
    assert start(config, Ailing()).total.rejected == 8
    before = parts(config)
    report = start(again(config, "retry-rejected"))
    assert (report.complete, report.this_run.rows, report.total.rows, report.total.rejected) == (True, 8, ROWS, 4)
    assert before.items() <= parts(config).items()
    require_whole(config, ROWS, 4)
    plan, page = Ledger(config.output).plan(), gather(Ledger(config.output))
    assert (page.total.rows, page.total.rejected, page.sources[0][1].rejected) == (ROWS, 4, 4)
    assert plan
    assert f"rows       {ROWS}\n" in describe(config, plan, ())
    assert [line.partition(": ")[2] for line in plan.history] == ["8 rejected rows tried again in 2 shards"]


def test_rejected_rows_are_tried_as_often_as_one_likes(config: JobConfig, tmp_path: Path) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"), Ailing())
    require_whole(config, ROWS, 8)
    start(again(config, "retry-rejected"))
    require_whole(config, ROWS, 4)
    write_lines(tmp_path / "in" / "c.jsonl", rows(ROWS))
    start(again(config, "grow"), Ailing())
    require_whole(config, 2 * ROWS, 12)
    start(again(config, "retry-rejected"))
    require_whole(config, 2 * ROWS, 8)
    assert start(config).this_run.shards == 0


def test_where_nothing_is_rejected_or_anything_missing_nothing_new_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(write_lines(tmp_path / "in.jsonl", [{"text": f"{n} a b c"} for n in range(ROWS)]), tmp_path / "out")
    with pytest.raises(ConfigError, match="holds nothing yet that could be tried again"):
        start(again(config, "retry-rejected"))
    start(config)
    assert start(again(config, "retry-rejected")).this_run.shards == 0
    assert "no row of the output is rejected" in capsys.readouterr().out
    next(Path(config.output).glob("part-*")).unlink()
    assert start(again(config, "retry-rejected")).this_run.shards == 1
    assert "the output is not finished" in capsys.readouterr().out


@pytest.mark.parametrize("left", [None, 1])
def test_rejects_that_are_gone_or_changed_are_told_before_they_are_planned_again(
    config: JobConfig, left: int | None
) -> None:
    start(config, Ailing())
    damaged = min(Path(config.output).glob("_rejects/*"))
    lines = damaged.read_text().splitlines(keepends=True)
    damaged.unlink()
    if left is not None:
        damaged.write_text("".join(lines[:left]))
    with pytest.raises(DamagedFile, match=r"part-.* is gone or changed: delete .*/part-.*\.parquet"):
        start(again(config, "retry-rejected"))
    assert not (Path(config.output) / "_plans").exists()
    (Path(config.output) / f"{damaged.name.partition('.')[0]}.parquet").unlink()
    start(config, Ailing())
    assert damaged.read_text() == "".join(lines)
    assert start(again(config, "retry-rejected")).this_run.rows == 8
    require_whole(config, ROWS, 4)


def test_rows_that_cannot_be_read_stay_rejects(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a b c"}\n{broken\n\n{"text": null}\n{"text": "please-wait a b"}\n')
    config = job(source, tmp_path / "out")
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    assert [(one["row"], one["reason"]) for one in rejects(config.output)] == [(1, "invalid_json"), (3, "null_text")]
    audit = verify(config.output)
    assert (audit.problems, audit.rows, audit.rejected) == ([], 4, 2)


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_parquet_in_either_format_out_is_tried_again(tmp_path: Path, output_format: str) -> None:
    pq.write_table(pa.Table.from_pylist(rows(0)), tmp_path / "in.parquet", row_group_size=16)
    config = job(tmp_path / "in.parquet", tmp_path / "out", shard_size=1024, output_format=output_format)
    start(config, Ailing())
    report = start(again(config, "retry-rejected"))
    assert (report.total.rows, report.total.rejected) == (ROWS, 4)
    audit = verify(config.output)
    assert (audit.problems, audit.rows, audit.rejected) == ([], ROWS, 4)


def test_an_old_part_that_is_made_again_leaves_out_what_was_tried_again(config: JobConfig) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    (Path(config.output) / min(parts(config))).unlink()
    assert start(config).this_run.shards == 1
    require_whole(config, ROWS, 4)


def test_a_lost_list_of_rows_that_are_tried_again_is_told_with_what_helps(config: JobConfig, tmp_path: Path) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    listed = min((Path(config.output) / "_retried").iterdir())
    attempt, content = listed.name.removesuffix(".jsonl"), listed.read_text()
    (record,) = (one for one in Ledger(config.output).records() if one.shard.retries == attempt)
    listed.unlink()
    old, retrying = verify(config.output).problems
    assert old.startswith(record.shard.retried or "?")
    assert old.endswith("checksum; put them back, or begin another output with --reuse of this one")
    assert retrying == f"{record.shard.name}.parquet: its rejects ({listed}) are gone"
    (Path(config.output) / f"{record.shard.name}.parquet").unlink()
    (failure,) = start(config).given_up.values()
    assert failure.detail == (
        f"{listed} is gone, which lists the rows to try again: put it back, or begin another output with --reuse "
        f"{config.output}"
    )
    fresh = job(config.inputs, tmp_path / "next", shard_size=1024, reuse=config.output)
    start(fresh)
    require_whole(fresh, ROWS, 4)
    listed.write_text(content)
    start(config)
    require_whole(config, ROWS, 4)


def test_a_later_output_reuses_what_was_tried_again(config: JobConfig, tmp_path: Path) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    fresh = job(config.inputs, tmp_path / "next", shard_size=1024, reuse=config.output)
    previous = open_previous(fresh, DIGEST)
    assert previous
    plan = draft_plan(fresh, DIGEST, Ledger(fresh.output))
    assert reusable(previous, plan, ()).endswith("36 of 40 rows reused; 4 to compress")


def test_a_part_of_rows_tried_again_that_was_changed_is_found(config: JobConfig) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    part = max(parts(config))
    table = pq.read_table(Path(config.output) / part, partitioning=None)
    pq.write_table(pa.concat_tables([table, table]), Path(config.output) / part)
    (problem,) = verify(config.output).problems
    assert problem.startswith(f"{part}: differs from its commit record")


# ---- kills and races


class DriverKilled(BaseException):
    """SIGKILL for driver and workers."""


class DyingStorage(Storage):
    """Storage of a machine that dies at its n-th change of the store, before or after it took effect."""

    def __init__(self, change: int, effect: bool) -> None:
        super().__init__()
        self.left, self.effect = change, effect

    def create(self, url: str, data: bytes | Path) -> bool:
        self._strike(lambda: Storage.create(self, url, data))
        return super().create(url, data)

    def write(self, url: str, data: bytes) -> None:
        self._strike(lambda: Storage.write(self, url, data))
        super().write(url, data)

    def delete(self, url: str) -> None:
        self._strike(lambda: Storage.delete(self, url))
        super().delete(url)

    def _strike(self, change: Any) -> None:
        self.left -= 1
        if self.left == 0:
            if self.effect:
                change()
            raise DriverKilled


@pytest.mark.parametrize("resume", ["grow", "retry-rejected"])
@pytest.mark.parametrize("effect", [False, True])
def test_a_kill_at_any_change_of_the_store_loses_and_doubles_nothing(
    config: JobConfig, tmp_path: Path, resume: str, effect: bool
) -> None:
    count, rejected = (2 * ROWS, 8) if resume == "grow" else (ROWS, 4)
    config = job(config.inputs, config.output)
    start(config, FakeCompressor() if resume == "grow" else Ailing())
    if resume == "grow":
        write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS))
    shutil.copytree(config.output, tmp_path / "before")
    for change in range(1, 100):
        shutil.rmtree(config.output)
        shutil.copytree(tmp_path / "before", config.output)
        dying = Ledger(config.output)
        dying.storage = DyingStorage(change, effect)
        with suppress(DriverKilled):
            start(again(config, resume), ledger=dying)
        start(again(config, resume) if change % 2 or resume == "grow" else config)
        if not list(Path(config.output).glob("_plans/0*")):  # killed before it was planned, then not asked for
            start(again(config, resume))
        require_whole(config, count, rejected)
        if dying.storage.left > 0:
            break
    assert change >= 8


@pytest.mark.parametrize("resume", ["grow", "retry-rejected"])
def test_of_many_that_extend_a_plan_one_does_and_the_others_go_on_with_it(
    config: JobConfig, tmp_path: Path, resume: str
) -> None:
    start(config, Ailing())
    write_lines(tmp_path / "in" / "a.jsonl", rows(ROWS)) if resume == "grow" else None
    ready, plans = Barrier(6), []

    def extend() -> None:
        ledger = Ledger(config.output)
        plan = replace(draft_plan(again(config, resume), DIGEST, ledger), history=(f"by {len(plans)}",))
        ready.wait()
        plans.append(ledger.open_or_create(plan))

    threads = [Thread(target=extend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 6
    assert all(plan == plans[0] for plan in plans)
    assert len(list(Path(config.output).glob("_plans/*"))) == 1


def test_a_start_that_was_overtaken_while_it_planned_goes_on_with_what_is_there(config: JobConfig) -> None:
    start(config, Ailing())
    late = draft_plan(again(config, "retry-rejected"), DIGEST, Ledger(config.output))
    start(again(config, "retry-rejected"))
    assert carry_out(late, config, FakeCompressor(), Ledger(config.output)).this_run.shards == 0
    require_whole(config, ROWS, 4)


def test_what_was_extended_and_what_it_extends_must_belong_together(config: JobConfig) -> None:
    start(config, Ailing())
    start(again(config, "retry-rejected"))
    (extended,) = Path(config.output).glob("_plans/*")
    stored = Plan.from_bytes(extended.read_bytes(), "")
    extended.write_bytes(replace(stored, about={"created": "at another time"}).to_bytes())
    with pytest.raises(PlanConflict, match=r"000002\.json extends another plan"):
        start(config)
    extended.write_bytes(b"{}")
    with pytest.raises(PlanConflict, match=r"000002\.json is damaged"):
        start(config)


def test_in_an_object_store_it_is_the_same(s3: S3Bucket) -> None:
    def put(name: str, first: int) -> None:
        lines = [json.dumps(row) + "\n" for row in rows(first)]
        s3.files.pipe_file(f"{s3.url}/in/{name}", "".join(lines).encode())

    def told() -> tuple[list[str], int, int]:
        audit = verify(config.output, s3.storage_options)
        return audit.problems, audit.rows, audit.rejected

    put("b.jsonl", 0)
    config = JobConfig(input=f"{s3.url}/in/*.jsonl", output=f"{s3.url}/out", storage_options=s3.storage_options)
    start(config, Ailing())
    put("a.jsonl", ROWS)
    start(again(config, "grow"), Ailing())
    assert told() == ([], 2 * ROWS, 16)
    start(again(config, "retry-rejected"))
    assert told() == ([], 2 * ROWS, 8)
    standing = [s3.files.cat_file(path).splitlines() for path in s3.files.ls(f"{s3.url}/out/_rejects")]
    assert sum(map(len, standing)) == 8
