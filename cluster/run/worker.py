"""`Worker`: loads the compressor once, then turns one shard after the other into a committed part. It knows no Ray.

Rows are read in a thread while the model works, those of the shard at hand and the beginning of the next one's; they
are written as they come and committed through the ledger. Only counts leave the worker. Failures leave it as values,
classed by consequence (`failure_of`), so that a pool never has to carry exceptions between processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from cluster.config import JobConfig
from cluster.errors import AbortRun, RetryShard, classify
from cluster.input.reader import form_of, read_rows
from cluster.input.shards import Shard, weight
from cluster.output.ledger import Ledger
from cluster.output.parts import PartWriter
from cluster.output.plan import Plan
from cluster.output.records import Counts
from cluster.output.reuse import Earlier, RowReuse
from cluster.output.summary import Summarizer
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from cluster.report.telemetry import Metrics, WorkerTelemetry, set_up_logs
from cluster.run.pipeline import Item, Meter, Pipeline, ReadAhead, StreamsPrompts, UnexpectedError
from cluster.run.resources import is_elsewhere
from cluster.storage.storage import Storage
from lingua.explain import public
from lingua.models.source import resolve
from lingua.prompt import Outcome

MAX_DETAIL = 500

MakeCompressor = Callable[[JobConfig], StreamsPrompts]
StartWorker = Callable[..., "Worker"]
"""`start_worker` with some of its arguments."""


def load_compressor(config: JobConfig) -> StreamsPrompts:
    """The job's compressor with its model loaded. Raises ModelError, ConfigError."""
    from lingua.compressor import Compressor  # torch is loaded where models run, not in the driver

    return Compressor(
        config.model,
        config.compression,
        device=config.device,
        dtype=config.dtype,
        gpu_memory=config.gpu_memory,
        gpu_share=config.gpu_share,
        trust_remote_code=config.trust_remote_code,
        fidelity_sample=config.fidelity_sample,
    )


def require_loadable(config: JobConfig) -> None:
    """ModelError where a worker could not be built, as far as that can be told without loading weights."""
    from lingua.models.load import Loader, require_device

    if not is_elsewhere(config.address):  # the machine at hand is where workers will be
        require_device(config.device)
    needs = config.compression.own.needs
    own = Loader(resolve(config.model), trust_remote_code=config.trust_remote_code)
    own.require("nothing" if needs == "sentences" else needs)
    if needs == "sentences":
        replace(own, source=resolve(config.compression.own.second_model or "")).require("sentences")


def start_worker(
    config: JobConfig, plan: Plan, make_compressor: MakeCompressor, metrics: Metrics, earlier: Earlier | None = None
) -> Worker:
    """A worker in a process of its own, whose logs go to its standard error."""
    set_up_logs(config.log_format)
    return Worker(config, plan, make_compressor, metrics, earlier)


class Worker:
    """One model, one shard at a time. `plan` may come without its lists of sources and shards.

    `earlier` is what an earlier output may hold of these rows: they are taken from there.
    """

    def __init__(
        self,
        config: JobConfig,
        plan: Plan,
        make_compressor: MakeCompressor = load_compressor,
        metrics: Metrics | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._config, self._plan = config, plan
        self._storage = Storage(config.storage_options)
        self._ledger = Ledger(config.output, config.storage_options)
        self._reuse = RowReuse(earlier, plan, self._storage) if earlier else None
        self._compressor = make_compressor(config)
        self._form = form_of(plan.columns, self._compressor)
        self._ahead: tuple[str, ReadAhead[Item]] | None = None
        self._meter = Meter()
        self._watch = WorkerTelemetry(metrics, lambda: getattr(self._compressor, "computed_seconds", 0.0))

    def attempt(self, assignment: Assignment) -> ShardReport | Failure:
        """`run`, with its failure as a value."""
        self._watch.begin(assignment.shard)
        try:
            result: ShardReport | Failure = self.run(assignment)
        except Exception as error:
            result = failure_of(error)
        self._watch.end(result)
        return result

    def run(self, assignment: Assignment) -> ShardReport:
        """Compress a shard and commit its part; a probe only compresses. Raises what went wrong."""
        started = time.perf_counter()
        self._meter = Meter()
        items = self._take(assignment.shard)
        self._ahead = self._reading(assignment.upcoming) if assignment.upcoming else None
        try:
            if assignment.probe is not None:
                self._pipeline(self._form.settled).run(items, assignment, self._meter)
                return ShardReport(assignment.shard.name, "probed", Counts(self._meter.read))
            return self._commit(items, assignment, started)
        finally:
            items.close()

    def beat(self) -> Beat:
        """How far the shard at hand is; may be asked from another thread."""
        return self._meter.beat()

    def _commit(self, items: Iterable[Item], assignment: Assignment, started: float) -> ShardReport:
        shard = assignment.shard
        summarizer = Summarizer(self._config.report_samples, self._plan.columns.mapped.id)
        with PartWriter(self._plan, shard, summarizer, self._form) as writer:

            def settle(item: Item, outcome: Outcome) -> None:
                outcome = self._form.settled(item, outcome)
                writer.add(item, outcome)
                self._watch.row(item, outcome)

            self._pipeline(settle).run(items, assignment, self._meter)
            part = writer.finish()
            seconds = time.perf_counter() - started
            outcome = self._ledger.commit(self._plan, shard, part, seconds)
        return ShardReport(shard.name, outcome, part.counts, seconds, getattr(self._compressor, "packing", ()))

    def _pipeline(self, sink: Callable[[Item, Any], object]) -> Pipeline:
        return Pipeline(self._form.prompt, self._compressor, sink)

    def _take(self, shard: Shard) -> ReadAhead[Item]:
        """The rows of a shard: those that are being read already, if the guess was right."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == shard.name:
            return ahead[1]
        if ahead is not None:
            ahead[1].close()
        return self._reading(shard)[1]

    def _reading(self, shard: Shard) -> tuple[str, ReadAhead[Item]]:
        items: Iterator[Item] = read_rows(shard, self._plan.columns, self._storage)
        if self._reuse is not None:
            items = self._reuse.over(shard, items)
        return shard.name, ReadAhead(items, weight)


def failure_of(error: BaseException) -> Failure:
    """What an exception means for the shard at hand, as a value that can travel."""
    detail = public(str(error))[:MAX_DETAIL] or type(error).__name__
    if classify(error) is AbortRun:
        return Failure("fatal", type(error).__name__, detail)
    if isinstance(error, (RetryShard, OSError)):
        return Failure("transient", type(error).__name__, detail)
    if isinstance(error, UnexpectedError):
        return Failure("crashed", type(error.__cause__ or error).__name__, detail)
    return Failure("crashed", type(error).__name__, f"{type(error).__name__}: {detail}")
