"""`python -m jobs.benchmarking.probe`: is the packed path right on this device, does it wait, where does time go?

Random weights, drawn wide, so that every token's surprisal depends on what stands before it. Three findings, each
written to DIR/probe.json as it comes: packed answers against transformers' plain forward; what makes the host wait for
the device; a profile of full batches, DIR/profile.txt and DIR/trace.json.gz.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.profiler import ProfilerActivity, profile

from jobs.benchmarking.contenders import PREFIX, SHAPES, random_model
from jobs.benchmarking.hardware import PACKAGES, busy_seconds, facts, parser, synchronize, timed
from jobs.generation import PLAIN_ATTENTION
from jobs.peer_main import versions
from lingua.engine.score import Answer, Arriving, BatchRow, Context, Scorer
from lingua.models.causal import PlainScorer
from lingua.models.load import choose_device, choose_dtype
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer

WIDE = 0.05
"""Standard deviation of the weights."""
ROWS = ((0, 40), (3, 1), (60, 200), (700, 130), (1_900, 90), (250, 333))
"""Tokens of context and probe of the rows that are compared, on a model whose window holds them."""
BATCHES, PROBE, CONTEXTS = 3, 200, (300, 1_200)
"""Full batches that are profiled; tokens of each of their probes, and of the cached contexts before them."""
LARGEST_TRACE = 10_000_000
_TOGETHER = 8
_LINES = 30


@dataclass(slots=True)
class Findings:
    """What was found so far; written whenever something is added."""

    folder: Path
    found: dict[str, Any]

    def add(self, name: str, value: object) -> None:
        self.found[name] = value
        (self.folder / "probe.json").write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {value}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser("probe", __doc__).parse_args(argv)
    flags.output.mkdir(parents=True, exist_ok=True)
    device = choose_device(flags.device)
    config = SHAPES[flags.model.removeprefix(PREFIX)]()
    config.initializer_range = WIDE
    model = random_model(config, device, choose_dtype(flags.dtype, device), seed=0)
    findings = Findings(flags.output, {"model": flags.model, "device": facts(device), "versions": versions(PACKAGES)})
    scorer = compare(model, findings)
    batches = full_batches(scorer, BATCHES)
    findings.add("waits", waits(scorer, batches[0], device))
    profiled(scorer, batches, findings)
    return 0


def compare(model: Any, findings: Findings) -> Scorer:
    """Packed against plain, in the model's dtype and in float32; returns the packed scorer."""
    exact = copy.deepcopy(model).float()
    for one in (model, exact):
        one.set_attn_implementation(PLAIN_ATTENTION)
    window = int(model.config.max_position_embeddings)
    reference, plain = (answers(PlainScorer(one), window) for one in (exact, model))
    alone = answers(PlainScorer(exact), window, contexts=False)
    findings.add("context_changes", difference(reference, alone))
    findings.add("plain_against_float32", difference(plain, reference))
    scorer: Any = causal_scorer(model, Allowance(share=0.5))
    findings.add("packing", scorer.packing)
    packed = answers(scorer, window)
    findings.add("packed_against_plain", difference(packed, plain))
    findings.add("packed_against_float32", difference(packed, reference))
    other = causal_scorer(exact, Allowance(share=0.2))
    findings.add("packed_float32_against_float32", difference(answers(other, window), reference))
    return scorer  # type: ignore[no-any-return]


def answers(scorer: Scorer, window: int, *, contexts: bool = True) -> npt.NDArray[np.float32]:
    """Surprisal of all probes, asked twice: anew, and after what was asked first is part of the cached context."""
    dice, shrink = np.random.default_rng(5), max(1, 8_192 // window)
    sizes = [(before // shrink, max(1, probe // shrink)) for before, probe in ROWS]
    kept = [Context(ids=_ids(dice, before)) for before, _ in sizes]
    found: list[npt.NDArray[np.float32]] = []
    for _ in range(2):
        probes = [_ids(dice, probe) for _, probe in sizes]
        kept = kept if contexts else [Context() for _ in sizes]
        found += scorer.score([BatchRow(context, probe) for context, probe in zip(kept, probes, strict=True)])
        for context, probe in zip(kept, probes, strict=True):
            context.ids.extend(probe)
    return np.concatenate(found)


def difference(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> dict[str, float]:
    """Nats by which surprisals differ, at the most and on average."""
    away = np.abs(one - other)
    return {"largest": float(away.max()), "mean": float(away.mean())}


def _ids(dice: np.random.Generator, size: int) -> list[int]:
    return dice.integers(3, 500, size).tolist()  # type: ignore[no-any-return]


def full_batches(scorer: Scorer, number: int) -> list[list[BatchRow]]:
    """Batches of rows that read on where cached contexts end, as segments of few-shot prompts do."""
    dice = np.random.default_rng(7)
    shrink = max(1, 4 * CONTEXTS[1] // scorer.window)
    probe, (low, high) = PROBE // shrink, CONTEXTS
    rows = [
        BatchRow(Context(ids=_ids(dice, int(dice.integers(low, high)) // shrink)), _ids(dice, probe))
        for _ in range(number * max(1, scorer.batch_tokens // (probe + 1)))
    ]
    for first in range(0, len(rows), _TOGETHER):
        scorer.score([BatchRow(row.context, row.probe[:1]) for row in rows[first : first + _TOGETHER]])
    return [rows[index::number] for index in range(number)]


def waits(scorer: Scorer, batch: Sequence[BatchRow], device: torch.device) -> dict[str, Any]:
    """What makes the host wait for the device while a batch is launched, and when its answers are taken."""
    if device.type != "cuda":
        return {"not measured": "no CUDA device"}
    scorer.start(batch)()
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            torch.cuda.set_sync_debug_mode("warn")
            begun = scorer.start(batch)
            launched = len(noted)
            begun()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"launch_places": _places(noted[:launched]), "answer_places": _places(noted[launched:])}


def _places(noted: Sequence[warnings.WarningMessage]) -> dict[str, int]:
    """Lines of code, and how often each waited."""
    return dict(Counter(f"{one.filename}:{one.lineno}" for one in noted if "synchroniz" in str(one.message)))


def profiled(scorer: Scorer, batches: Sequence[Sequence[BatchRow]], findings: Findings) -> None:
    """Time the batches, then profile them: the tables as text, and the trace where it is small."""
    device = torch.device(findings.found["device"]["type"])
    run_through(scorer, batches)
    seconds = timed(lambda: run_through(scorer, batches), device)
    tokens = sum(len(row.probe) + len(row.context) - scorer.cached(row.context) for batch in batches for row in batch)
    findings.add("batches", {"seconds": seconds, "tokens": tokens, "rows": sum(map(len, batches))})
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as profiler:
        run_through(scorer, batches)
        synchronize(device)
    averages, busy = profiler.key_averages(), busy_seconds(profiler)
    findings.add("device_busy_share", busy / seconds if device.type == "cuda" else None)
    orders = ["self_cuda_time_total"] * (device.type == "cuda") + ["self_cpu_time_total"]
    tables = [averages.table(sort_by=order, row_limit=_LINES, max_name_column_width=90) for order in orders]
    heading = f"{tokens} tokens in {seconds:.4f} s without the profiler; kernels ran for {busy:.4f} s\n"
    (findings.folder / "profile.txt").write_text("\n".join([heading, *tables]), encoding="utf-8")
    trace = findings.folder / "trace.json.gz"
    profiler.export_chrome_trace(str(trace))
    if trace.stat().st_size > LARGEST_TRACE:
        trace.unlink()


def run_through(scorer: Scorer, batches: Sequence[Sequence[BatchRow]]) -> None:
    """As the engine does it: while a batch is computed, the next one is under way."""
    flying: deque[Arriving[list[Answer]]] = deque()
    for batch in batches:
        flying.append(scorer.start(batch))
        if len(flying) > scorer.ahead:
            flying.popleft()()
    while flying:
        flying.popleft()()


if __name__ == "__main__":
    sys.exit(main())
