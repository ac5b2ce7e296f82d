"""Contenders in turn, round after round, so that a busy machine slows all of them alike; and the report of it.

Every number stands with its device, model, data and versions, as JSON and as Markdown.
"""

from __future__ import annotations

import datetime
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster.storage.local import replace_whole
from jobs.benchmarking.contenders import KeptSpans, Ours, Pass, Theirs, plain_forward
from jobs.benchmarking.hardware import PACKAGES, Roofline, Size, attainable, facts, measure_roofline
from jobs.benchmarking.prompts import Mix
from jobs.peer_main import versions
from lingua.prompt import Prompt, Span

Found = dict[str, Any]
PLAIN_LENGTH, PLAIN_TOKENS = 4_096, 1 << 17
"""Rows of the plain forward are as long as the mix's prompts, and it takes as many tokens as we did, up to these."""
_FIRST = Prompt(
    context=["A prompt that nobody keeps: it is compressed once, so that all code has run. " * 4], question="Who?"
)
"""What happens only once is not measured."""


@dataclass(slots=True)
class Rounds:
    """What was measured on one mix; lists have one entry per round.

    slow_rows   prompts for what is slow (None: all)     hardware   whether the plain forward is measured too
    runs        by contender's name                      failed     why, by name
    plain       tokens per second of the plain forward   busy       share of the time in which the device computed
    """

    mix: Mix
    ours: Ours
    tokens: list[int]
    slow_rows: int | None = None
    hardware: bool = True
    runs: dict[str, list[Pass]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    plain: list[float] = field(default_factory=list)
    roofs: list[Roofline] = field(default_factory=list)
    busy: float | None = None

    def measure(self, others: Sequence[Ours | Theirs], number: int) -> Iterator[None]:
        """Run every contender over the mix, round after round; our engine comes first and sets the pace.

        Comes back whenever something was measured, so that this is kept if the rest never ends.
        """
        prompts, own = self.mix.prompts, self.ours.name
        for done in range(number):
            for contender in (self.ours, *others):
                self._run(contender)
                yield
                if self.hardware and contender is self.ours and own in self.runs:
                    self._beside_hardware()
                    yield
                said = f"{self.mix.name}, round {done + 1} of {number}: {contender.name}"
                print(said, file=sys.stderr, flush=True)
        if own in self.runs:
            self.busy = self.ours.busy_share(prompts, statistics.median(run.seconds for run in self.runs[own]))
            yield

    def _run(self, contender: Ours | Theirs) -> None:
        if contender.name in self.failed:
            return
        prompts = self.mix.prompts[: self.slow_rows] if contender.forgetful else self.mix.prompts
        try:
            if contender.name not in self.runs:
                contender.run([_FIRST])
            run = contender.run(prompts)
        except Exception as error:  # a failure of any kind is a result of this contender, not the end of the others
            print(f"{contender.name} failed: {error}", file=sys.stderr, flush=True)
            self.failed[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            self.runs.pop(contender.name, None)
        else:
            self.runs.setdefault(contender.name, []).append(run)

    def _beside_hardware(self) -> None:
        """The plain forward over as many tokens as our engine just took, and the roofline."""
        run, subject = self.runs[self.ours.name][-1], self.ours.subject
        length = min(PLAIN_LENGTH, round(statistics.median(self.tokens)))
        tokens = max(1, min(run.model_tokens, PLAIN_TOKENS))
        self.plain.append(plain_forward(subject, tokens, length, self.ours.scorer.batch_tokens))
        self.roofs.append(measure_roofline(subject.device, subject.dtype))

    # ---- what it comes to

    def found(self) -> Found:
        """Everything as JSON values; where there are several rounds, as `spread`."""
        return {
            "name": self.mix.name,
            "prompts": len(self.mix.prompts),
            "tokens": sum(self.tokens),
            "tokens_per_prompt": spread(self.tokens),
            "digest": self.mix.digest,
            "contenders": {name: self._contender(name, runs) for name, runs in self.runs.items()},
            "failed": self.failed,
            "times_as_fast": self._times_as_fast(lambda run: run.seconds),
            "times_as_fast_by_cpu_time": self._times_as_fast(lambda run: run.cpu_seconds),
            "hardware": self._shares() if self.ours.name in self.runs else {},
        }

    def _contender(self, name: str, runs: Sequence[Pass]) -> Found:
        seconds, first = sum(run.seconds for run in runs), runs[0]
        found = {
            "prompts": first.prompts,
            "rejected": first.rejected,
            "tokens_per_second": spread(self._speeds(runs, lambda run: run.seconds)),
            "tokens_per_cpu_second": spread(self._speeds(runs, lambda run: run.cpu_seconds)),
            "kept_share": first.kept_share,
            "model_tokens_per_token": first.model_tokens / sum(self.tokens[: first.prompts]),
            "time_share": {stage: sum(run.stages[stage] for run in runs) / seconds for stage in first.stages},
            "peak_gigabytes": max(run.peak_bytes for run in runs) / 1e9,
        }
        if name != self.ours.name and first.kept and self.ours.name in self.runs:
            kept = self.runs[self.ours.name][0].kept
            found["changed_decisions"] = changed_share(self.mix.prompts, kept, first.kept)
        return found

    def _speeds(self, runs: Sequence[Pass], time: Callable[[Pass], float]) -> list[float]:
        """Original tokens per second, by round."""
        return [sum(self.tokens[: run.prompts]) / time(run) for run in runs]

    def _times_as_fast(self, time: Callable[[Pass], float]) -> dict[str, dict[str, float]]:
        """Our speed over everyone else's, round by round."""
        speeds = {name: self._speeds(runs, time) for name, runs in self.runs.items()}
        ours = speeds.pop(self.ours.name, [])
        return {
            name: spread([fast / slow for fast, slow in zip(ours, theirs, strict=False)])
            for name, theirs in speeds.items()
            if ours
        }

    def _shares(self) -> Found:
        """How much our engine makes of the hardware."""
        runs, size = self.runs[self.ours.name], Size.of(self.ours.subject.model)
        idle = [1 - run.stages["model"] / run.seconds for run in runs] if self.busy is None else [1 - self.busy]
        means = "time outside the model" if self.busy is None else "time without a kernel on the device"
        found: Found = {"idle_share": spread(idle), "idle_means": means}
        if not self.roofs:
            return found
        measured = list(zip(runs, self.plain, self.roofs, strict=False))  # the last round may lack some
        operations = [sum(map(size.operations, run.batches)) / run.seconds for run in runs]
        shares = {
            "of_plain_forward": [run.model_tokens / run.seconds / plain for run, plain, _ in measured],
            "of_roofline": [attainable(run.batches, size, roof) / run.seconds for run, _, roof in measured],
            "of_matrix_product": [done / roof.operations for done, roof in zip(operations, self.roofs, strict=False)],
            "plain_forward_tokens_per_second": self.plain,
            "matrix_product_gflops": [roof.operations / 1e9 for roof in self.roofs],
            "copy_gigabytes_per_second": [roof.bytes / 1e9 for roof in self.roofs],
        }
        return found | {name: spread(values) for name, values in shares.items()}


def changed_share(prompts: Sequence[Prompt], ours: Sequence[KeptSpans], theirs: Sequence[KeptSpans]) -> float:
    """Share of the context's characters that one keeps and the other does not, over prompts that both compressed."""
    changed = total = 0
    for prompt, one, other in zip(prompts, ours, theirs, strict=False):
        for text, kept, also in zip(prompt.context, one, other, strict=False):
            changed += len(_places(kept) ^ _places(also))
            total += len(text)
    return changed / max(1, total)


def _places(spans: Sequence[Span]) -> set[int]:
    return {place for begin, end in spans for place in range(begin, end)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest; empty for nothing."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else {}


# ---- the report


def make_report(ours: Ours, mixes: Sequence[Rounds], peer: dict[str, str], command: str) -> Found:
    """Everything as one JSON object. `peer`: its versions, or ``{"missing": why}``."""
    config, model = ours.config, ours.subject.model
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": facts(ours.subject.device),
        "model": {
            "name": ours.subject.name,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "dtype": str(model.dtype).removeprefix("torch."),
            "runs": getattr(ours.scorer, "packing", "as an encoder"),
        },
        "settings": {"method": config.method, "rate": config.rate, "batch_tokens": ours.scorer.batch_tokens},
        "versions": versions(PACKAGES),
        "peer": peer,
        "mixes": [rounds.found() for rounds in mixes],
    }


def write(folder: Path, name: str, report: Found, text: str) -> None:
    """Replace NAME.json and NAME.md in the folder, each whole at any moment."""
    replace_whole(folder / f"{name}.json", f"{json.dumps(report, indent=2)}\n".encode())
    replace_whole(folder / f"{name}.md", text.encode())


def page(name: str, **found: Any) -> str:
    """The Markdown of a report, by its template."""
    folder = FileSystemLoader(Path(__file__).parent)
    made = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"form": format, "spread": _spread, "at": _at}
    made.filters["listed"] = lambda values: ", ".join(f"{name} {value}" for name, value in values.items())
    return made.get_template(f"{name}.md.jinja").render(**found).rstrip() + "\n"


def _at(found: Any, path: str) -> Any:
    """What stands there, by names and places with dots between; None where it was not measured."""
    for name in path.split("."):
        try:
            found = found[int(name) if name.isdecimal() else name]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def _spread(values: dict[str, float], form: str) -> str:
    """``median (min to max)``, or just the number where they are one."""
    median, least, most = (format(values[key], form) for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"
