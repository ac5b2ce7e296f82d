"""Compress a corpus: `python -m jobs.compress --input … --output … --rate 0.5`, by itself or through `ray job submit`.

Joins the parts: settings → plan → pool of workers → driver → report. Exit code 0 only if every shard is committed;
2 for wrong settings, before any model loads or Ray starts; 128 + n after signal n; else 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from cluster.config import JobConfig
from cluster.describe import describe, facts
from cluster.driver import Driver, Terms
from cluster.errors import ClusterError
from cluster.ledger import Ledger
from cluster.limits import Wish
from cluster.plan import Plan
from cluster.prepare import make_plan, open_plan
from cluster.progress import progress_on
from cluster.protocols import NoPool, Pool
from cluster.report import RunReport
from cluster.stopping import EXIT_ABORTED, Heartbeat, StopRequest, grace_seconds, on_signals
from cluster.worker import MakeCompressor, Worker, load_compressor
from lingua.errors import LinguaError
from lingua.models.source import resolve

EXIT_SETTINGS = 2


def main(argv: Sequence[str] | None = None, make_compressor: MakeCompressor = load_compressor) -> int:
    """Run the job with these arguments; the exit code."""
    try:
        config = JobConfig.load(sys.argv[1:] if argv is None else argv)
        return dry_run(config) if config.dry_run else compress(config, make_compressor)
    except LinguaError as error:
        return _complain(error, EXIT_SETTINGS)
    except ClusterError as error:
        return _complain(error, EXIT_ABORTED)


def dry_run(config: JobConfig) -> int:
    """Print the plan and stop."""
    resolve(config.model)
    plan = make_plan(config, model_digest="")
    print(describe(config, plan, Ledger(config.output, config.storage_options).committed()))
    return 0


def compress(config: JobConfig, make: MakeCompressor) -> int:
    """Plan, run, report."""
    stop, ledger = StopRequest(), Ledger(config.output, config.storage_options)
    with on_signals(stop):
        plan = open_plan(config, resolve(config.model).digest, ledger)
        lease = ledger.acquire_lease("jobs.compress", config.lease_seconds)
        try:
            with Heartbeat(lease.renew, config.lease_seconds, stop):
                ledger.clean()
                report = _run(config, ledger, plan, stop, make)
                ledger.write_stats(report.as_json(facts(config, plan)))
        finally:
            lease.release()
    print(report.summary())
    return 0 if report.complete else stop.exit_code


def _run(config: JobConfig, ledger: Ledger, plan: Plan, stop: StopRequest, make: MakeCompressor) -> RunReport:
    missing = len({shard.name for shard in plan.shards} - ledger.committed())
    drive = partial(_drive, Terms.of(config, grace_seconds()), ledger, plan, stop)
    if not missing or stop.reason:
        return drive(NoPool())
    from cluster.pool import RayPool, session  # Ray takes a second, for nothing where all is done

    light = replace(plan, shards=(), sources=())
    with session(config.address), on_signals(stop):  # Ray brings signal handlers of its own
        pool = RayPool(partial(Worker, config, light, make), Wish.of(config, missing))
        try:
            return drive(pool)
        finally:
            pool.close()


def _drive(terms: Terms, ledger: Ledger, plan: Plan, stop: StopRequest, pool: Pool) -> RunReport:
    progress = progress_on()
    try:
        return Driver(ledger, pool, terms, stop=stop).run(plan.shards, progress)
    finally:
        progress.close()


def _complain(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
