"""`Worker`: loads the compressor once, then turns one shard after the other into a committed part. It knows no Ray.

Rows are read in a thread while the model works, those of the shard at hand and the beginning of the next one's; they
are written as they come and committed through the ledger. Only counts leave the worker. Failures leave it as values,
classed by consequence (`failure_of`), so that a pool never has to carry exceptions between processes.
"""

from __future__ import annotations

import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Protocol

from cluster.config import JobConfig
from cluster.errors import RetryShard, is_fatal
from cluster.input.reader import Item, ReadAhead, RowForm, read_rows
from cluster.input.shards import BadRow, Shard, weight
from cluster.output.ledger import Ledger
from cluster.output.parts import PartWriter
from cluster.output.plan import Plan
from cluster.output.records import Counts, read_rejects
from cluster.output.reuse import Earlier, RowReuse
from cluster.output.summary import Summarizer
from cluster.placement import is_elsewhere
from cluster.protocol import Assignment, Beat, Failure, ShardReport
from cluster.report.telemetry import Metrics, WorkerTelemetry, set_up_logs
from cluster.storage.storage import Storage
from lingua.errors import PromptError
from lingua.explain import public
from lingua.methods import scoring_model
from lingua.models.source import resolve
from lingua.prompt import Outcome, Prompt, Rejected
from lingua.structured.streams import PromptStream

MAX_DETAIL = 500
MAX_READY = 32 << 20
"""Bytes of rows with an outcome that may wait behind one without."""
MAX_EXAMPLE = 200
"""Characters of what is said of the first rejected row."""
MAX_HELD = 64 << 20
"""Bytes of rows that may wait for an outcome, their pass-through columns included."""


class WorkerCompressor(PromptStream, Protocol):
    """What a worker needs of a compressor: outcomes, the seconds that its models computed, and how these run."""

    @property
    def computed_seconds(self) -> float: ...

    @property
    def packing(self) -> tuple[str, ...]: ...


MakeCompressor = Callable[[JobConfig], WorkerCompressor]
StartWorker = Callable[..., "Worker"]
"""`start_worker` with some of its arguments."""


def load_compressor(config: JobConfig) -> WorkerCompressor:
    """The job's compressor with its model loaded. Raises ModelError, ConfigError."""
    from lingua.compressor import Compressor  # torch is loaded where models run, not in the driver

    found = Compressor(
        config.model,
        config.compression,
        device=config.device,
        dtype=config.dtype,
        gpu_memory=config.gpu_memory,
        gpu_share=config.gpu_share,
        trust_remote_code=config.trust_remote_code,
        fidelity_sample=config.fidelity_sample,
    )
    gc.collect()
    gc.freeze()  # what libraries and models hold lives as long as the worker: no later collection needs to look at it
    return found


class OnDemand:
    """A compressor that is made for the first prompt it is given: never, where an earlier output knows all rows."""

    def __init__(self, config: JobConfig, make: MakeCompressor) -> None:
        self._config, self._make = config, make
        self._made: WorkerCompressor | None = None

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        waiting = iter(prompts)
        for first in waiting:
            if self._made is None:
                self._made = self._make(self._config)
            yield from self._made.stream(chain([first], waiting))

    @property
    def computed_seconds(self) -> float:
        return self._made.computed_seconds if self._made else 0.0

    @property
    def packing(self) -> tuple[str, ...]:
        return self._made.packing if self._made else ()


def require_loadable(config: JobConfig) -> None:
    """ModelError where a worker could not be built, as far as that can be told without loading weights."""
    from lingua.models.load import Loader, require_device

    if not is_elsewhere():  # the machine at hand is where workers will be
        require_device(config.device)
    own = Loader(resolve(config.model), trust_remote_code=config.trust_remote_code)
    scoring = replace(own, source=scoring_model(own.source, config.compression))
    for loader, needs in {own: "nothing", scoring: config.compression.own.needs}.items():  # often the same loader
        loader.require(needs)


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
        self._compressor: WorkerCompressor = OnDemand(config, make_compressor) if earlier else make_compressor(config)
        self._form = RowForm.of(plan.columns, config.compression)
        self._ahead: tuple[str, ReadAhead] | None = None
        self._beat = Beat()
        self._watch = WorkerTelemetry(metrics, lambda: self._compressor.computed_seconds)

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
        self._beat = Beat()
        items = self._take(assignment.shard)
        self._ahead = self._reading(assignment.upcoming) if assignment.upcoming else None
        try:
            if assignment.probe is not None:
                sink = self._form.reassembled
                Pipeline(self._form.prompt, self._compressor, sink).run(items, assignment, self._beat)
                return ShardReport(assignment.shard.name, "probed", Counts(self._beat.read))
            return self._commit(items, assignment, started)
        finally:
            items.close()

    def beat(self) -> Beat:
        """How far the shard at hand is; may be asked from another thread."""
        return replace(self._beat, rejects=Counter(self._beat.rejects))

    def _commit(self, items: Iterable[Item], assignment: Assignment, started: float) -> ShardReport:
        shard = assignment.shard
        summarizer = Summarizer(self._config.report_samples, self._plan.columns.mapped.id)
        with PartWriter(self._plan, shard, summarizer, self._form) as writer:

            def write(item: Item, outcome: Outcome) -> None:
                outcome = self._form.reassembled(item, outcome)
                writer.add(item, outcome)
                self._watch.row(item, outcome)

            Pipeline(self._form.prompt, self._compressor, write).run(items, assignment, self._beat)
            part = writer.finish()
            seconds = time.perf_counter() - started
            committed = self._ledger.commit(self._plan, shard, part, seconds)
        return ShardReport(shard.name, committed, part.counts, seconds, self._compressor.packing)

    def _take(self, shard: Shard) -> ReadAhead:
        """The rows of a shard: those that are being read already, if the guess was right."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == shard.name:
            return ahead[1]
        if ahead is not None:
            ahead[1].close()
        return self._reading(shard)[1]

    def _reading(self, shard: Shard) -> tuple[str, ReadAhead]:
        items: Iterator[Item] = read_rows(shard, self._plan.columns, self._storage)
        if self._plan.history:
            items = self._as_planned(shard, items)
        if self._reuse is not None:
            items = self._reuse.over(shard, items)
        return shard.name, ReadAhead(items)

    def _as_planned(self, shard: Shard, items: Iterable[Item]) -> Iterator[Item]:
        """Of the rows of a range those of its shard; what another shard tries again is rejected as it was."""
        if shard.retries is not None:
            url = self._ledger.retried_url(shard.retries)
            try:
                wanted = {reject.number for reject in read_rejects(url, self._storage)}
            except FileNotFoundError:
                remedy = f"put it back, or begin another output with --reuse {self._ledger.url}"
                raise RetryShard(f"{url} is gone, which lists the rows to try again: {remedy}") from None
            items = (item for item in items if item.number in wanted)
        other = self._elsewhere.get(shard.name)
        known = {reject.number: reject for reject in read_rejects(other, self._storage)} if other else {}
        yield from (known.get(item.number, item) for item in items)

    @cached_property
    def _elsewhere(self) -> Mapping[str, str]:
        """Where the rejected rows of shards are listed whose rejected rows others try again."""
        return self._ledger.retried()


def failure_of(error: BaseException) -> Failure:
    """What an exception means for the shard at hand, as a value that can travel."""
    detail = public(str(error))[:MAX_DETAIL] or type(error).__name__
    if is_fatal(error):
        return Failure("fatal", type(error).__name__, detail)
    if isinstance(error, (RetryShard, OSError)):
        return Failure("transient", type(error).__name__, detail)
    return Failure("crashed", type(error).__name__, f"{type(error).__name__}: {detail}")


# ---- from rows to outcomes


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The rows of a shard through a compressor, each to exactly one outcome, in order, in bounded memory.

    The compressor pulls prompts as far ahead as it likes; what waits between a row and its outcome is what it holds
    itself. Rows without a prompt, and rows whose result is known, never reach it and take their turn among the others;
    where so many of these wait behind one that it fills memory, the compressor is let finish before it is given more.
    `sink` is given each row with its outcome.
    """

    to_prompt: Callable[[Mapping[str, object]], Prompt]
    compressor: PromptStream
    sink: Callable[[Item, Outcome], object]

    def run(self, items: Iterable[Item], assignment: Assignment, beat: Beat) -> None:
        """Give the sink every row of the shard that the assignment asks for."""
        waiting = _Waiting()
        prompts = self._prompts(items, assignment, waiting, beat)
        while not waiting.ended:
            waiting.paused = False
            stretch = iter(partial(next, prompts, None), None)  # up to a None, which pauses the stream, or the end
            for outcome in self.compressor.stream(stretch):
                self._drain(waiting, beat)
                self._give(waiting.take(), outcome, beat)
                self._drain(waiting, beat)
            self._drain(waiting, beat)
            if waiting.rows:
                raise RuntimeError(f"the compressor gave no outcome for {len(waiting.rows)} prompts")
            if not (waiting.ended or waiting.paused):
                raise RuntimeError("the compressor ended before its prompts did")

    def _prompts(
        self, items: Iterable[Item], assignment: Assignment, waiting: _Waiting, beat: Beat
    ) -> Iterator[Prompt | None]:
        """The prompts for the compressor; None where it should finish first."""
        for position, item in enumerate(items):
            beat.read += 1
            if assignment.probe is not None and position not in assignment.probe:
                continue
            prompt = assignment.poison.get(position) or self._prompt(item)
            waiting.add(item, None if isinstance(prompt, Prompt) else prompt)
            if isinstance(prompt, Prompt):
                yield prompt
            else:
                self._drain(waiting, beat)
            if waiting.ready >= MAX_READY or waiting.held >= MAX_HELD:
                waiting.paused = True
                yield None
        waiting.ended = True

    def _prompt(self, item: Item) -> Prompt | Outcome:
        if isinstance(item, BadRow):
            return Rejected(item.reason, item.detail)
        if item.earlier is not None:
            return item.earlier
        try:
            return self.to_prompt(item.values)
        except PromptError as error:
            return Rejected(error.reason, error.detail)

    def _drain(self, waiting: _Waiting, beat: Beat) -> None:
        """Give the sink the rows at the head that need no compressor."""
        while waiting.rows and (outcome := waiting.rows[0][1]) is not None:
            self._give(waiting.take(), outcome, beat)

    def _give(self, item: Item, outcome: Outcome, beat: Beat) -> None:
        self.sink(item, outcome)
        beat.done += 1
        if isinstance(outcome, Rejected):
            beat.rejects[outcome.reason] += 1
            beat.example = beat.example or f"row {item.number}: {public(outcome.detail)[:MAX_EXAMPLE]}"


class _Waiting:
    """Rows in their order, with their outcome if they have it. `held`: their bytes; `ready`: of those that have one.

    paused, ended   how giving prompts to the compressor stopped: until it is done, or with the shard
    """

    def __init__(self) -> None:
        self.rows: deque[tuple[Item, Outcome | None, int]] = deque()
        self.held = self.ready = 0
        self.paused = self.ended = False

    def add(self, item: Item, outcome: Outcome | None) -> None:
        size = weight(item)
        self.rows.append((item, outcome, size))
        self.held += size
        self.ready += 0 if outcome is None else size

    def take(self) -> Item:
        item, outcome, size = self.rows.popleft()
        self.held -= size
        self.ready -= 0 if outcome is None else size
        return item
