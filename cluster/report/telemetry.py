"""What is told of a run while it goes on: progress for people, metrics by name, events in the logs.

Progress is a bar on a terminal, plain lines in a log, or events; all show the same figures (`Snapshot`).

The names of the metrics are those of `cluster/deploy/grafana/lingua.json`; Ray puts ``ray_`` before them, and
``_total`` behind counters. `cluster.run.pool.RayMetrics` hands them to Ray, which offers them to Prometheus. Every
metric has the labels `run` (the output's name) and `worker`. `WorkerTelemetry` tells what a worker does, `metered` what
the driver knows. Values are gathered row by row and handed on about once a second, so that telling them costs nothing
that can be measured.

Logs are events of the standard library's logger ``lingua``, as lines for people or as JSON Lines; whoever embeds
the job may attach handlers of their own. An event has a short name and its facts as fields (`shard`, `source`, …),
never the text of a row. Workers write to their standard error, which Ray keeps in a file for each and
shows in its dashboard.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

from tqdm import tqdm

from cluster.input.shards import BadRow, Row, Shard
from cluster.output.records import counted
from cluster.protocol import Failure, ShardReport
from lingua.explain import public
from lingua.prompt import Outcome, Rejected

LOGGER = logging.getLogger("lingua")
LOGGER.addHandler(logging.NullHandler())
_OURS = "lingua-events"
_LEVEL = logging.INFO
"""What the events of a job are logged from, where nobody chose."""
SECONDS_BETWEEN_VALUES = 1.0
SECONDS_BETWEEN_LINES = 10.0
LOGGED_REJECTS = 20
"""Rejected rows of a shard that are logged one by one; all of them are in `_rejects/`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter that only grows, or a gauge; `labels` beside `run` and `worker`."""

    name: str
    kind: Literal["counter", "gauge"]
    description: str
    labels: tuple[str, ...] = ()


ROWS = Metric("lingua_rows", "counter", "Rows that have their outcome, by status.", ("status",))
REJECTS = Metric("lingua_rejects", "counter", "Rejected rows, by reason.", ("reason",))
ORIGIN_TOKENS = Metric("lingua_origin_tokens", "counter", "Tokens of the rows before compression.")
COMPRESSED_TOKENS = Metric("lingua_compressed_tokens", "counter", "Tokens of the rows after compression.")
BUSY = Metric("lingua_busy_share", "gauge", "Share of the worker's time in which its device computed.")
PLANNED = Metric("lingua_planned_shards", "gauge", "Shards of the whole corpus.")
QUEUE = Metric("lingua_queued_shards", "gauge", "Shards that are not committed yet.")
WORKERS = Metric("lingua_workers", "gauge", "Workers that are ready or busy.")
FAILURES = Metric("lingua_failed_attempts", "gauge", "Attempts of this run that failed.")
METRICS = (ROWS, REJECTS, ORIGIN_TOKENS, COMPRESSED_TOKENS, BUSY, PLANNED, QUEUE, WORKERS, FAILURES)


class Metrics(Protocol):
    """Takes values: of a counter what it grew by, of a gauge what it is."""

    def record(self, metric: Metric, value: float, **labels: str) -> None: ...


class WorkerTelemetry:
    """Tells what one worker does. `computed`: seconds that its device has computed for so far."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        computed: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._computed, self._clock = computed, clock
        self._told, self._computed_before = clock(), computed()
        self._counts: Counter[tuple[Metric, tuple[str, str] | None]] = Counter()
        self._rejects = 0
        self._named: dict[str, Any] = {}

    def begin(self, shard: Shard) -> None:
        self._named, self._rejects = {"shard": shard.name, "source": shard.source.path}, 0
        event("shard begun", **self._named)

    def row(self, item: Row | BadRow, outcome: Outcome) -> None:
        if isinstance(outcome, Rejected):
            self._counts[ROWS, ("status", "rejected")] += 1
            self._counts[REJECTS, ("reason", outcome.reason)] += 1
            self._rejects += 1
            if self._rejects <= LOGGED_REJECTS:
                event("row rejected", logging.WARNING, **self._named, row=item.number, reason=outcome.reason)
        else:
            self._counts[ROWS, ("status", outcome.status)] += 1
            self._counts[ORIGIN_TOKENS, None] += outcome.origin_tokens
            self._counts[COMPRESSED_TOKENS, None] += outcome.compressed_tokens
        if self._clock() - self._told >= SECONDS_BETWEEN_VALUES:
            self._tell()

    def end(self, result: ShardReport | Failure) -> None:
        self._tell()
        if isinstance(result, Failure):
            event("shard failed", logging.WARNING, **self._named, reason=result.reason, detail=result.detail)
            return
        # what is not 0 of the counts; `fidelity` and `predicted` as means over their rows
        counts = result.counts
        figures = {name: value for name, value in asdict(counts).items() if value}
        for name, rows in (("fidelity", counts.rows - counts.rejected), ("predicted", counts.sampled)):
            if name in figures:
                figures[name] = round(figures[name] / rows, 6)
        event(f"shard {result.outcome}", **self._named, seconds=round(result.seconds, 3), **figures)

    def _tell(self) -> None:
        now, computed = self._clock(), self._computed()
        if self._metrics:
            for (metric, label), value in self._counts.items():
                self._metrics.record(metric, value, **dict([label] if label else []))
            if now > self._told:
                self._metrics.record(BUSY, min(1.0, (computed - self._computed_before) / (now - self._told)))
        self._counts.clear()
        self._told, self._computed_before = now, computed


# ---- how far a run is


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a run stands.

    done, planned    shards, of the whole corpus
    rows             rows finished in this run; rows of shards in flight count as they are done
    origin_tokens, compressed_tokens    of the shards that this run committed
    seconds          since the run began
    reused_tokens    of origin_tokens: came from an earlier output and are no speed
    """

    done: int
    planned: int
    rows: int
    origin_tokens: int
    compressed_tokens: int
    workers: int
    failures: int
    seconds: float
    reused_tokens: int = 0

    def figures(self) -> str:
        """Rows, speed and rate in one phrase, e.g. ``1,204 rows, 5,310 tokens/s, rate 0.499, 2 workers``."""
        parts = [counted(self.rows, "row")]
        if self.origin_tokens and self.seconds > 0:
            parts.append(f"{(self.origin_tokens - self.reused_tokens) / self.seconds:,.0f} tokens/s")
            parts.append(f"rate {self.compressed_tokens / self.origin_tokens:.3f}")
        failed = [counted(self.failures, "failed attempt")] if self.failures else []
        return ", ".join([*parts, counted(self.workers, "worker"), *failed])


@dataclass
class Progress:
    """Where the driver tells how far it is: `show` is told every `every` seconds, and at once when all is done."""

    show: Callable[[Snapshot], None] = lambda _: None
    note: Callable[[str], None] = lambda _: None  # says what happened
    close: Callable[[], None] = lambda: None  # puts away what was set up
    every: float = SECONDS_BETWEEN_LINES
    beside: Progress | None = None  # is told the same
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._told, self._done = float("-inf"), -1

    def update(self, snapshot: Snapshot) -> None:
        finished = snapshot.done == snapshot.planned != self._done
        self._done = snapshot.done
        if finished or self.clock() - self._told >= self.every:
            self._told = self.clock()
            self.show(snapshot)
        if self.beside:
            self.beside.update(snapshot)


def lines(stream: TextIO) -> Progress:
    """A plain line now and then, for a log."""

    def note(message: str) -> None:
        print(message, file=stream, flush=True)

    def show(snapshot: Snapshot) -> None:
        note(f"{snapshot.seconds:7.0f} s  {snapshot.done}/{snapshot.planned} shards, {snapshot.figures()}")

    return Progress(show, note)


def bar(stream: TextIO) -> Progress:
    """A bar that counts shards and carries the other figures behind it, for a terminal."""
    shown: list[Any] = []

    def show(snapshot: Snapshot) -> None:
        if not shown:
            shown.append(tqdm(total=snapshot.planned, initial=snapshot.done, unit="shard", file=stream))
        shown[0].set_postfix_str(snapshot.figures(), refresh=False)
        shown[0].update(snapshot.done - shown[0].n)
        shown[0].refresh()

    def note(message: str) -> None:
        tqdm.write(message, file=stream)

    def finish() -> None:
        for one in shown:
            one.close()

    return Progress(show, note, finish, every=0.0)


def progress_on(stream: TextIO | None = None) -> Progress:
    """A bar if the stream (standard error unless given) is a terminal, else lines."""
    stream = sys.stderr if stream is None else stream
    return bar(stream) if stream.isatty() else lines(stream)


def metered(metrics: Metrics) -> Progress:
    """What the driver knows, as metrics."""

    def show(snapshot: Snapshot) -> None:
        metrics.record(PLANNED, snapshot.planned)
        metrics.record(QUEUE, snapshot.planned - snapshot.done)
        metrics.record(WORKERS, snapshot.workers)
        metrics.record(FAILURES, snapshot.failures)

    return Progress(show, every=SECONDS_BETWEEN_VALUES)


def watched_progress(style: Literal["text", "json"], metrics: Metrics | None = None) -> Progress:
    """A bar or lines for people, or events; told to `metrics` too, if there are any."""
    shown = progress_on()
    if style == "json":
        leave = set_up_logs(style)
        shown = Progress(lambda at: event("progress", **asdict(at)), lambda text: event("note", text=text), leave)
    shown.beside = metered(metrics) if metrics else None
    return shown


# ---- events


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    LOGGER.log(level, name, extra={"fields": fields})


def set_up_logs(style: Literal["text", "json"], stream: TextIO | None = None) -> Callable[[], None]:
    """Write the events to `stream` (standard error unless given), until what is returned is called.

    A second call replaces the first. Handlers of whoever embeds the job stay, and so does a level that they chose.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.set_name(_OURS)
    handler.setFormatter(EventFormatter(style))
    _leave()
    LOGGER.addHandler(handler)
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(_LEVEL)
    return _leave


def _leave() -> None:
    for handler in [one for one in LOGGER.handlers if one.get_name() == _OURS]:
        LOGGER.removeHandler(handler)
        if LOGGER.level == _LEVEL:
            LOGGER.setLevel(logging.NOTSET)


class EventFormatter(logging.Formatter):
    """An event as a line of JSON (`time` in UTC, `level`, `event`, and the fields), or for people (``name=value``)."""

    def __init__(self, style: Literal["text", "json"]) -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        given = getattr(record, "fields", {}).items()
        fields = {name: public(value) if isinstance(value, str) else value for name, value in given}
        level, name = record.levelname.lower(), public(record.getMessage())
        moment = datetime.fromtimestamp(record.created, UTC)
        if self._json:
            facts = {"time": moment.isoformat(timespec="milliseconds"), "level": level, "event": name, **fields}
            return json.dumps(facts, default=str)
        head = f"{moment.astimezone():%Y-%m-%d %H:%M:%S} {level} {name}"
        return " ".join([head, *(f"{name}={json.dumps(value, default=str)}" for name, value in fields.items())])
