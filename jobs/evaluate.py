"""Does it still answer? `python -m jobs.evaluate --data … --target … --output …`, alone or through `ray job submit`.

Joins the parts: settings → rows → units of work → pool of workers → driver → tables. Exit code 0 only if every unit is
committed; 2 for wrong settings or rows, before any model loads or Ray starts; 128 + n after signal n; else 1.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import jobs
from cluster.placement import ResourceRequest
from cluster.report.statistics import TooManyRejects
from cluster.report.telemetry import progress_on
from cluster.run.driver import Driver, Terms
from cluster.stopping import StopRequest, exit_code, grace_seconds, on_signals
from cluster.storage.storage import Storage
from jobs import require_packages
from jobs.evaluation.forms import read
from jobs.evaluation.ledger import EvalLedger, Wave, identify, needs_in, waves
from jobs.evaluation.rows import EvalRow, fewer_strings, gold_strings
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import NAME
from jobs.evaluation.work import MakeTarget, UnitRunner, make_target
from lingua.errors import ConfigError, PromptError
from lingua.prompt import Prompt

LEASE_SECONDS = 60.0


def main(argv: Sequence[str] | None = None, make: MakeTarget = make_target) -> int:
    return exit_code(lambda: evaluate(EvalConfig.load(argv), make))


def evaluate(config: EvalConfig, make: MakeTarget) -> int:
    """Plan, measure what is missing, report."""
    require_packages("eval", "matplotlib", "pandas", "rouge_score", "sacrebleu")
    sets = load_sets(config, Storage(config.storage_options))
    plan = waves(config, {name: len(rows) for name, rows in sets.items()})
    stop, ledger = StopRequest(), EvalLedger(config.output, config.storage_options)
    identity = identify(config, sets)
    with on_signals(stop):
        ledger.begin(identity)
        ledger.store(sets)
        with ledger.held(LEASE_SECONDS, stop) as lease:
            ledger.clean()
            complete = all(_run(config, ledger, wave, stop, make) for wave in plan)
            lease.renew()  # who lost it must not write over the results of the next
            if complete:
                print(conclude(config, ledger, plan, identity))
    return 0 if complete else stop.exit_code


def _run(config: EvalConfig, ledger: EvalLedger, wave: Wave, stop: StopRequest, make: MakeTarget) -> bool:
    """Bring the units of a wave to their end; whether all are committed."""
    names, title = {unit.name for unit in wave}, "asking" if wave[0].target else "compressing"
    missing = len(names - set(ledger.committed()))
    if not missing or stop.reason:
        return not missing
    from cluster.run.pool import RayPool, session  # Ray takes a second, for nothing where all is done

    terms = Terms(shard_timeout=config.timeout, grace=grace_seconds())
    wish = ResourceRequest.of(config, missing, needs_in(config, wave))
    with session((jobs,)) as fixed, on_signals(stop):  # Ray brings signal handlers of its own
        pool, progress = RayPool(partial(UnitRunner, config, wave, make), replace(wish, fixed=fixed)), progress_on()
        with closing(pool), closing(progress):
            progress.note(f"{title}: {missing} of {len(names)} units are missing")
            report = Driver(ledger, pool, terms, stop=stop).run([unit.shard() for unit in wave], progress)
    if report.refused:
        raise TooManyRejects(report.stopped)
    for name, failure in sorted(report.given_up.items()):
        print(f"given up: {name}: {failure.detail}", file=sys.stderr)
    return names <= set(ledger.committed())


def conclude(config: EvalConfig, ledger: EvalLedger, plan: Sequence[Wave], identity: Mapping[str, Any]) -> str:
    """Put `summary.json`, `summary.md` and the report; the tables as text."""
    from jobs.evaluation.report import render  # draws
    from jobs.evaluation.summary import markdown, summarize

    measured = ledger.measured(unit for wave in plan for unit in wave)
    baseline = (config.peers or [one.name for one in config.candidates])[0]
    summary = summarize(measured, baseline, seed=config.seed or 0)
    info = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "model": config.model, "settings": identity}
    text = markdown(summary)
    ledger.write("summary.json", json.dumps({**info, **summary.as_json()}, indent=1).encode())
    ledger.write("summary.md", text.encode())
    ledger.write("report.html", render(summary, info).encode())
    return f"{text}\n{ledger.url}/report.html draws this; summary.md and summary.json are beside it."


# ---- which rows are measured: checked before any model loads


def load_sets(config: EvalConfig, storage: Storage) -> dict[str, list[EvalRow]]:
    """The chosen rows of each set, by the name that the user gave it. ConfigError when a row cannot be used."""
    sets = dict[str, list[EvalRow]]()
    for name, url in config.data.items():
        sets[name] = chosen((replace(row, set=row.set or name) for row in read(url, storage)), config)
        _require_usable(name, url, sets[name])
    return sets


def chosen(rows: Iterator[EvalRow], config: EvalConfig) -> list[EvalRow]:
    """Rows by `limit`, `offset` and `seed`, of `strings` strings at most; no more are read than needed to choose."""
    if config.seed is not None:
        shuffled = list(rows)
        random.Random(config.seed).shuffle(shuffled)
        rows = iter(shuffled)
    found = islice(rows, config.offset, None if config.limit is None else config.offset + config.limit)
    return [row if config.strings is None else fewer_strings(row, config.strings) for row in found]


def _require_usable(name: str, url: str, rows: Sequence[EvalRow]) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(f"--data {name}={url}: a set's name is made of letters, digits, - and _")
    if not rows:
        raise ConfigError(f"--data {name}={url}: no rows are left; look at the file, --offset and --limit")
    seen = set[str]()
    for row in rows:
        if fault := _fault(row, seen):
            raise ConfigError(f"{url}, row {row.id!r}: {fault}")
        seen.add(row.id)


def _fault(row: EvalRow, seen: set[str]) -> str | None:
    if row.id in seen:
        return "field 'id': two rows have this id"
    if not any(row.context):
        return "field 'context' is empty: there is nothing to compress"
    if not any(answer.strip() for answer in row.answers):
        return "field 'answers' is empty: there is nothing to compare with"
    try:
        Prompt(row.instruction, row.context, row.question)
        gold_strings(row.gold)
    except PromptError as error:
        return f"field {error.detail}"
    except (TypeError, ValueError, LookupError):
        return "field 'gold' does not tell strings of the context by their numbers"
    return None


if __name__ == "__main__":
    sys.exit(main())
