"""The worker with a real ledger on disk and a compressor without a model."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import PlanConflict, RetryShard
from cluster.input.reader import read_rows
from cluster.input.shards import BadRow, Row, Shard, Source, arrow_rows, weight
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import make_plan
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from cluster.run.worker import Pipeline, Worker, failure_of
from lingua.config import CompressionConfig
from lingua.errors import ModelError
from lingua.prompt import Outcome, Prompt, Rejected
from tests.fakes import CRASH, REJECT, FakeCompressor

ROWS = 120


class Desk:
    """A corpus of numbered documents in JSON Lines, its plan, its ledger, and a worker."""

    def __init__(self, folder: Path, special: dict[int, str] | None = None) -> None:
        self.input = folder / "in.jsonl"
        self.input.write_text("".join(line(number, special or {}) for number in range(ROWS)))
        self.config = JobConfig(input=str(self.input), output=str(folder / "out"), shard_size=2048)
        self.plan: Plan = make_plan(self.config, "digest")
        self.ledger = Ledger(self.config.output)
        self.ledger.open_or_create(self.plan)
        self.worker = self.hire(FakeCompressor())

    def hire(self, compressor: Any) -> Worker:
        light = replace(self.plan, shards=(), sources=())
        return Worker(self.config, light, lambda config: compressor)

    def part(self, position: int) -> list[dict[str, Any]]:
        url = self.ledger.part_url(self.plan, self.plan.shards[position])
        return pq.read_table(url).to_pylist()  # type: ignore[no-any-return]

    def rejects(self) -> list[dict[str, Any]]:
        files = sorted((Path(self.config.output) / "_rejects").glob("*"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def attempt(self, position: int, **changes: Any) -> ShardReport | Failure:
        return self.worker.attempt(Assignment(self.plan.shards[position], **changes))


def line(number: int, special: dict[int, str]) -> str:
    text = special.get(number, f"document {number} says a few words that could be fewer")
    return text + "\n" if text.startswith("{") else json.dumps({"id": number, "text": text}) + "\n"


def test_all_shards_together_hold_every_row_once_and_in_order(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    reports = [desk.attempt(position) for position in range(len(desk.plan.shards))]
    assert len(reports) > 3
    assert all(isinstance(report, ShardReport) and report.outcome == "committed" for report in reports)
    rows = [row["id"] for position in range(len(reports)) for row in desk.part(position)]
    assert rows == list(range(ROWS))
    assert sum(report.counts.rows for report in reports if isinstance(report, ShardReport)) == ROWS


def test_bad_rows_are_rejected_with_their_reason_and_the_shard_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {2: "{not json", 5: f"{REJECT} of this", 7: '{"id": 7, "text": null}'})
    report = desk.attempt(0)
    assert isinstance(report, ShardReport)
    assert report.counts.rejected == 3
    assert [(row["row"], row["reason"]) for row in desk.rejects()] == [
        (2, "invalid_json"),
        (5, "asked_for"),
        (7, "null_text"),
    ]
    assert not {2, 5, 7} & {row["id"] for row in desk.part(0)}


def test_a_second_attempt_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.attempt(0)
    before = desk.part(0)
    assert isinstance(desk.attempt(0), ShardReport)
    assert desk.part(0) == before
    assert len(desk.ledger.records()) == 1


def test_a_probe_commits_nothing_and_tells_how_many_rows_there_are(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    report = desk.attempt(0, probe=range(0))
    assert isinstance(report, ShardReport)
    assert (report.outcome, report.counts.rows) == ("probed", desk.plan.shards[0].rows)
    assert desk.ledger.committed() == set()


def test_poison_rows_become_rejects_and_their_neighbours_are_compressed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {3: f"{CRASH} here"})
    crash = desk.attempt(0)
    assert isinstance(crash, Failure)
    assert (crash.kind, crash.reason) == ("crashed", "RuntimeError")
    report = desk.attempt(0, poison={3: Rejected("killed_worker", "compressing it alone ended 2 workers")})
    assert isinstance(report, ShardReport)
    assert report.counts.rejects == {"killed_worker": 1}
    assert [(row["row"], row["reason"]) for row in desk.rejects()] == [(3, "killed_worker")]
    assert [row["id"] for row in desk.part(0)] == [n for n in range(report.counts.rows) if n != 3]


def test_the_next_shard_is_read_while_this_one_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[str, threading.Event] = defaultdict(threading.Event)

    def noticed(shard: Shard, *arguments: Any) -> Iterator[Any]:
        begun[shard.name].set()
        yield from read_rows(shard, *arguments)

    class WaitsForTheNext(FakeCompressor):
        def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
            assert begun[desk.plan.shards[1].name].wait(20)
            yield from super().stream(prompts)

    monkeypatch.setattr("cluster.run.worker.read_rows", noticed)
    desk = Desk(tmp_path)
    desk.worker = desk.hire(WaitsForTheNext())
    assert isinstance(desk.attempt(0, upcoming=desk.plan.shards[1]), ShardReport)
    assert isinstance(desk.attempt(1, upcoming=desk.plan.shards[2]), ShardReport)
    assert isinstance(desk.attempt(3), ShardReport)  # the guess was wrong
    rows = [row["id"] for position in (0, 1) for row in desk.part(position)]
    assert rows == list(range(len(rows)))
    assert desk.part(3)[0]["id"] == desk.plan.shards[3].first_row
    assert not any(thread.name == "read-ahead" for thread in threading.enumerate())


def test_an_input_that_changed_commits_nothing_and_is_fatal(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with desk.input.open("a") as file:
        file.write('{"id": 999, "text": "late"}\n')
    failure = desk.attempt(0)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == ("fatal", "SourceChanged")
    assert str(desk.input) in failure.detail
    assert desk.ledger.committed() == set()


def test_a_worker_whose_plan_was_replaced_commits_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {3: REJECT})
    corrected = make_plan(desk.config.model_copy(update={"compression": CompressionConfig(rate=0.25)}), "digest")
    assert desk.ledger.open_or_create(corrected) is corrected
    for position in (0, 1):
        failure = desk.attempt(position)
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.reason) == ("fatal", "AbortRun")
        assert "is another plan now: the output was begun anew with other settings or inputs" in failure.detail
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_plan.json"]


def test_a_worker_reads_the_plan_once_and_then_looks_whether_it_was_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    read: list[str] = []
    usual = Ledger.plan
    monkeypatch.setattr(Ledger, "plan", lambda ledger: read.append(ledger.url) or usual(ledger))
    for position in (0, 1, 2):
        assert isinstance(desk.attempt(position), ShardReport)
    assert len(read) == 1
    plan = tmp_path / "out" / "_plan.json"
    plan.write_bytes(plan.read_bytes() + b"\n")
    assert isinstance(desk.attempt(3), ShardReport)
    assert len(read) == 2


def test_signs_of_life_count_rows(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {3: REJECT, 5: REJECT})
    desk.attempt(0)
    beat = desk.worker.beat()
    assert beat.read == beat.done == desk.plan.shards[0].rows
    assert beat.rejects == {"asked_for": 2}
    assert beat.example.startswith("row 3: the prompt holds")
    desk.attempt(1)
    assert (desk.worker.beat().rejects, desk.worker.beat().example) == ({}, "")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RetryShard("503"), "transient"),
        (ConnectionResetError("reset"), "transient"),
        (TimeoutError("slow"), "transient"),
        (OSError(28, "No space left on device"), "fatal"),
        (PermissionError(13, "Permission denied"), "fatal"),
        (PlanConflict("begun otherwise"), "fatal"),
        (ModelError("no such model"), "fatal"),
        (RuntimeError("CUDA error"), "crashed"),
        (ValueError(""), "crashed"),
    ],
)
def test_failures_are_classed_by_consequence(error: Exception, kind: str) -> None:
    failure = failure_of(error)
    assert failure.kind == kind
    assert failure.detail


def test_a_row_weighs_all_that_it_holds_columns_that_pass_through_included() -> None:
    text, page = "a" * 1000, "b" * 5_000_000
    batch = pa.RecordBatch.from_pydict({"text": [text], "html": [page]})
    for row in (Row(0, {"text": text}, {"text": text, "html": page}), Row(0, {"text": text}, next(arrow_rows(batch)))):
        assert 5_000_000 < weight(row) < 5_010_000
    assert weight(BadRow(0, "invalid_json", "…", "x" * 10_000)) > 10_000
    shared = pa.array([page] * 3).dictionary_encode()[:1]  # its dictionary is there once, whatever waits
    assert weight(Row(0, {}, next(arrow_rows(pa.RecordBatch.from_arrays([shared], ["html"]))))) < 2000


def test_no_more_rows_wait_for_the_compressor_than_memory_holds() -> None:
    waiting, most = 0, 0

    class Greedy:
        """Takes all prompts before it answers."""

        def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
            nonlocal waiting, most
            taken = list(prompts)
            most = max(most, len(taken))
            yield from FakeCompressor().compress(taken)

    page = "b" * (8 << 20)
    rows = [Row(number, {"text": "a"}, {"text": "a", "html": page}) for number in range(40)]
    done: list[int] = []
    pipeline = Pipeline(lambda values: Prompt(context=("a b",)), Greedy(), lambda item, _: done.append(item.number))
    pipeline.run(rows, Assignment(Shard("part-00000-00000000", Source("x", 1, "v", "jsonl"), 0, 1)), Beat())
    assert done == list(range(40))
    assert most == 8
