"""Compress a corpus: `python -m jobs.compress --input … --output … --rate 0.5`, by itself or through `ray job submit`.

Joins the parts: settings → inputs and columns → device, model and tokenizer → lease → plan → pool of workers → driver →
report. Nothing is written before the lease. Exit code 0 only if every shard is committed; 2 for wrong settings, before
any model computes; 128 + n after signal n; else 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import draft_plan
from cluster.output.reuse import open_previous
from cluster.placement import ResourceRequest
from cluster.report.dry_run import notices, pending
from cluster.report.page import name_of, unsampled
from cluster.report.statistics import RunReport, TooManyRejects, finish
from cluster.report.telemetry import watched_progress
from cluster.run.driver import Driver, RejectCeiling, Terms
from cluster.run.worker import MakeCompressor, StartWorker, load_compressor, require_loadable, start_worker
from cluster.stopping import StopRequest, exit_code, grace_seconds, on_signals
from lingua.methods import models_digest
from lingua.models.source import resolve
from lingua.text.tokens import require_target


def main(argv: Sequence[str] | None = None, make_compressor: MakeCompressor = load_compressor) -> int:
    def run() -> int:
        config = JobConfig.load(argv)
        return dry_run(config, make_compressor) if config.dry_run else compress(config, make_compressor)

    return exit_code(run)


def dry_run(config: JobConfig, make: MakeCompressor) -> int:
    """Print the plan, and an estimate where one is asked for, and stop."""
    require_target(config.compression.target_tokenizer)
    print(pending(config, make))
    return 0


def compress(config: JobConfig, make: MakeCompressor) -> int:
    """Plan, run, report."""
    stop, ledger = StopRequest(), Ledger(config.output, config.storage_options)
    with on_signals(stop):
        digest = models_digest(resolve(config.model), config.compression)
        require_target(config.compression.target_tokenizer)
        previous = open_previous(config, digest)  # refuses before there is an output
        plan = draft_plan(config, digest, ledger)
        if make is load_compressor and not ledger.begun():
            require_loadable(config)
        print("".join(f"{notice}\n" for notice in notices(plan)), end="")
        with ledger.held(config.lease_seconds, stop) as lease:
            plan = ledger.open_or_create(plan)
            ledger.clean()
            ledger.set_aside(plan.retried)
            earlier = previous.earlier(plan, ledger.committed()) if previous else None
            start = partial(start_worker, make_compressor=make, earlier=earlier)
            report = _run(config, ledger, plan, stop, start)
            lease.renew()  # who lost it must not write over the figures of the next
            ledger.require_plan_file()
            finish(config, ledger, plan, report)
            if report.refused:
                raise TooManyRejects(report.stopped)
            if report.complete:
                ledger.clean()
                ledger.set_aside(plan.retried)  # of old parts that were made again
    print(report.summary(unsampled(config.compression.method, config.fidelity_sample)))
    if report.total.rejected:
        print(f"  Each rejected row, with its file, number and reason: {config.output}/_rejects/*.jsonl")
    return 0 if report.complete else stop.exit_code


def _run(config: JobConfig, ledger: Ledger, plan: Plan, stop: StopRequest, start: StartWorker) -> RunReport:
    missing = len({shard.name for shard in plan.shards} - ledger.committed())
    ceiling = RejectCeiling.of(config.max_rejected)
    terms = Terms(ceiling=ceiling, shard_timeout=config.shard_timeout, grace=grace_seconds())
    driver = partial(Driver, ledger, terms=terms, stop=stop)
    if not missing or stop.reason:
        return driver(None).run(plan.shards)
    from cluster.run.pool import RayMetrics, RayPool, session  # Ray takes a second, for nothing where all is done

    light, metrics = replace(plan, shards=(), sources=()), RayMetrics(name_of(config.output))
    with session() as fixed, on_signals(stop):  # Ray brings signal handlers of its own
        runner = partial(start, config, light, metrics=metrics)
        wish = ResourceRequest.of(config, missing, [config.compression.own.needs], resolve(config.model).size)
        pool, progress = RayPool(runner, replace(wish, fixed=fixed)), watched_progress(config.log_format, metrics)
        with closing(pool), closing(progress):
            return driver(pool).run(plan.shards, progress)


if __name__ == "__main__":
    sys.exit(main())
