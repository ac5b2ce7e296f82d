"""Metrics, structured logs and progress events: what a watcher is told of workers and driver."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.protocol import Assignment
from cluster.report import telemetry as logs
from cluster.report.telemetry import (
    BUSY,
    COMPRESSED_TOKENS,
    LOGGED_REJECTS,
    ORIGIN_TOKENS,
    PLANNED,
    QUEUE,
    REJECTS,
    ROWS,
    WORKERS,
    Metric,
    Progress,
    Snapshot,
    WorkerTelemetry,
    metered,
    progress_on,
    watched_progress,
)
from cluster.run.worker import Worker, start_worker
from lingua.prompt import CompressedPrompt, Prompt
from tests.cluster.jobs_for_tests import open_plan
from tests.fakes import CRASH, REJECT, SAMPLE, FakeCompressor
from tests.pools import Clock


class Taken:
    """Metrics that remember: counters are added up, of gauges the values stay in a list."""

    def __init__(self) -> None:
        self.counters: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[str, list[float]] = {}

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        assert tuple(labels) == metric.labels
        if metric.kind == "counter":
            self.counters[(metric.name, *labels.values())] += int(value)
        else:
            self.gauges.setdefault(metric.name, []).append(value)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, as JSON Lines; the logger is as before at the end."""
    before = logs.LOGGER.handlers, logs.LOGGER.level, logs.LOGGER.propagate
    stream = io.StringIO()
    logs.set_up_logs("json", stream)
    yield stream
    logs.LOGGER.handlers, logs.LOGGER.level, logs.LOGGER.propagate = before


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def attempt(folder: Path, texts: list[str | None], metrics: Taken | None = None) -> None:
    """One worker, one shard."""
    rows = ["{" if text is None else json.dumps({"text": text}) for text in texts]
    (folder / "in.jsonl").write_text("\n".join(rows) + "\n")
    config = JobConfig(input=str(folder / "in.jsonl"), output=str(folder / "out"))
    plan = open_plan(config, "d" * 64, Ledger(config.output))
    worker = Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor(), metrics)
    worker.attempt(Assignment(plan.shards[0]))


def test_counters_hold_every_row_token_and_reject(tmp_path: Path) -> None:
    taken = Taken()
    attempt(tmp_path, ["one two three four", "short", None, f"{REJECT} of this"], taken)
    assert taken.counters == {
        (ROWS.name, "compressed"): 1,
        (ROWS.name, "passthrough"): 1,
        (ROWS.name, "rejected"): 2,
        (REJECTS.name, "invalid_json"): 1,
        (REJECTS.name, "asked_for"): 1,
        (ORIGIN_TOKENS.name,): 5,
        (COMPRESSED_TOKENS.name,): 3,
    }


def test_the_busy_share_is_the_time_computed_of_the_time_gone() -> None:
    clock, taken, computed = Clock(), Taken(), Clock()
    watch = WorkerTelemetry(taken, computed, clock)
    (outcome,) = FakeCompressor().compress([Prompt(context=("a b c d",))])
    assert isinstance(outcome, CompressedPrompt)
    for gone, busy in ((0.5, 0.2), (0.5, 0.3), (2.0, 2.0)):
        clock.now, computed.now = clock.now + gone, computed.now + busy
        watch.row(_row(), outcome)
    assert taken.gauges[BUSY.name] == pytest.approx([0.5, 1.0])


def _row() -> Any:
    from cluster.input.shards import Row

    return Row(0, {"text": "a b c d"}, {})


def test_values_are_handed_on_about_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    taken = Taken()
    attempt(tmp_path, ["one two three four"] * 500, taken)
    assert taken.counters[(ROWS.name, "compressed")] == 500
    assert len(taken.gauges[BUSY.name]) < 20


def test_the_driver_tells_queue_and_workers() -> None:
    taken, clock = Taken(), Clock()
    progress = replace(metered(taken), clock=clock)
    start = Snapshot(2, 10, 5, 0, 0, 3, 1, 4.0)
    for snapshot in (start, replace(start, done=3), replace(start, done=10)):
        progress.update(snapshot)
    assert taken.gauges[QUEUE.name] == [8, 0]
    assert (taken.gauges[PLANNED.name], taken.gauges[WORKERS.name]) == ([10, 10], [3, 3])


def test_events_name_shard_and_row_and_never_its_text(tmp_path: Path, lines: io.StringIO) -> None:
    attempt(tmp_path, ["one two three four", None, f"{REJECT} of the secret"])
    found = events(lines)
    assert [one["event"] for one in found] == ["shard begun", "row rejected", "row rejected", "shard committed"]
    source = str(tmp_path / "in.jsonl")
    assert {one["source"] for one in found} == {source}
    assert [(one["row"], one["reason"]) for one in found[1:3]] == [(1, "invalid_json"), (2, "asked_for")]
    assert (found[3]["rows"], found[3]["rejected"], found[3]["level"]) == (3, 2, "info")
    assert found[3]["shard"].startswith("part-00000-")
    assert "secret" not in lines.getvalue()


def test_the_last_event_of_a_shard_has_means_and_not_sums(tmp_path: Path, lines: io.StringIO) -> None:
    attempt(tmp_path, ["one two three four", "five six seven eight", f"{SAMPLE} of four words", None])
    last = events(lines)[-1]
    assert (last["rows"], last["origin_tokens"], last["compressed_tokens"]) == (4, 12, 6)
    assert (last["fidelity"], last["sampled"], last["predicted"]) == (0.5, 1, 0.25)
    assert last["seconds"] >= 0


def test_many_rejects_are_not_all_logged(tmp_path: Path, lines: io.StringIO) -> None:
    attempt(tmp_path, ["one row is fine", *[None] * 100])
    assert sum(one["event"] == "row rejected" for one in events(lines)) == LOGGED_REJECTS


def test_a_failure_is_an_event_with_its_reason(tmp_path: Path, lines: io.StringIO) -> None:
    attempt(tmp_path, [f"{CRASH} now"])
    last = events(lines)[-1]
    assert (last["event"], last["level"], last["reason"]) == ("shard failed", "warning", "RuntimeError")


def test_text_lines_have_the_same_facts() -> None:
    record = logging.LogRecord("lingua", logging.INFO, "", 0, "shard begun", None, None)
    record.fields = {"shard": "part-1", "source": "a b\nc"}
    assert logs.EventFormatter("text").format(record).endswith('info shard begun shard="part-1" source="a b\\nc"')


def test_progress_as_json_is_one_event_at_a_time(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", lines)
    progress = watched_progress("json")
    progress.update(Snapshot(1, 2, 5, 100, 50, 3, 0, 4.0))
    progress.update(Snapshot(1, 2, 6, 100, 50, 3, 0, 4.5))
    progress.note("part-1 failed")
    progress.update(Snapshot(2, 2, 9, 200, 100, 3, 0, 5.0))
    progress.close()
    found = events(lines)
    assert [one["event"] for one in found] == ["progress", "note", "progress"]
    assert (found[0]["done"], found[0]["planned"], found[2]["rows"]) == (1, 2, 9)


def test_a_worker_in_its_own_process_logs_to_its_standard_error(
    tmp_path: Path, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    (tmp_path / "in.jsonl").write_text('{"text": "one two three"}\n')
    config = JobConfig(input=str(tmp_path / "in.jsonl"), output=str(tmp_path / "out"), log_format="json")
    plan = open_plan(config, "d" * 64, Ledger(config.output))
    worker = start_worker(config, plan, lambda _: FakeCompressor(), Taken())
    worker.attempt(Assignment(plan.shards[0]))
    assert [one["event"] for one in events(stream)] == ["shard begun", "shard committed"]


# ---- the bar and the lines


def at(done: int, seconds: float = 1.0, failures: int = 0, workers: int = 2) -> Snapshot:
    return Snapshot(done, 10, 100 * done, 1000 * done, 500 * done, workers, failures, seconds)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_few_seconds_and_one_at_the_end() -> None:
    now, stream = 0.0, io.StringIO()
    told = replace(logs.lines(stream), clock=lambda: now)
    for done in range(10):
        now = float(done * 4)
        told.update(at(done, seconds=now))
    told.update(at(10, seconds=37))
    told.update(at(10, seconds=38))
    text = stream.getvalue().splitlines()
    assert [line.split()[2] for line in text] == ["0/10", "3/10", "6/10", "9/10", "10/10"]
    assert "1,000 rows, 270 tokens/s, rate 0.500, 2 workers" in text[-1]


def test_figures_name_failures_and_spare_what_is_not_known() -> None:
    assert at(0).figures() == "0 rows, 2 workers"
    assert at(1, failures=1, workers=1).figures().endswith("1 worker, 1 failed attempt")


def test_what_was_reused_is_no_speed() -> None:
    assert "250 tokens/s, rate 0.500" in replace(at(1, seconds=2), reused_tokens=500).figures()


def test_a_terminal_gets_a_bar_with_the_same_figures() -> None:
    stream = Terminal()
    progress = progress_on(stream)
    progress.update(at(4))
    progress.note("part-00003 failed")
    progress.update(at(10))
    progress.close()
    assert "10/10" in stream.getvalue()
    assert "part-00003 failed" in stream.getvalue()
    assert "rate 0.500" in stream.getvalue()


def test_what_is_not_a_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_on()
    progress.note("waiting for a worker")
    progress.close()
    assert capsys.readouterr().err == "waiting for a worker\n"


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Progress()
    silent.update(at(1))
    silent.note("nothing")
    silent.close()
    assert capsys.readouterr() == ("", "")
