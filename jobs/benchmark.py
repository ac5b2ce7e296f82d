"""`python -m jobs.benchmark`: how fast is our engine against the public llmlingua and the hardware?

All are measured in one run, in turn, on the same texts and weights: what counts are the ratios. Needs no Ray.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from jobs.benchmarking.contenders import Contender, Ours, Theirs
from jobs.benchmarking.measure import Plan, measure_mix, warm_up
from jobs.benchmarking.mixes import Mix, make_mix, read_mix
from jobs.benchmarking.peer import Peer, PeerError, PeerSettings, peer_options
from jobs.benchmarking.report import make_report
from jobs.benchmarking.settings import Settings, parse
from jobs.benchmarking.subject import Subject, load_subject
from jobs.benchmarking.table import markdown
from lingua.config import CompressionConfig
from lingua.errors import LinguaError
from lingua.models.compiled import require_compiler
from lingua.models.load import Loader, choose_device, choose_dtype
from lingua.models.source import resolve
from lingua.tokens import SourceTokenizer

ITERATIVE = ("llmlingua", "longllmlingua")
"""Methods that read their own output, and so compute what is kept twice."""


def main(argv: Sequence[str] | None = None) -> int:
    """0: reported. 2: a setting or the model is wrong."""
    try:
        run(parse(argv))
    except LinguaError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    return 0


def run(settings: Settings) -> None:
    """Measure everything, print the table, write the report."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if "compile" in settings.also:
        require_compiler(choose_device(settings.device))
    subject = _subject(settings, settings.dtype)
    tokenizer = SourceTokenizer(subject.tokenizer)
    mixes = _mixes(settings, tokenizer)
    with contextlib.ExitStack() as stack:
        theirs, peer = _theirs(settings, subject, stack)
        ours = list(_ours(settings, subject))
        plan = Plan(settings.rounds, settings.slow_rows, [*ours, *theirs], tokenizer.count)
        warm_up(plan.contenders)
        report = make_report(settings, ours[0], [measure_mix(mix, plan) for mix in mixes], peer)
    print(markdown(report))
    if settings.output is not None:
        settings.output.mkdir(parents=True, exist_ok=True)
        (settings.output / "benchmark.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (settings.output / "benchmark.md").write_text(markdown(report), encoding="utf-8")


def _mixes(settings: Settings, tokenizer: SourceTokenizer) -> list[Mix]:
    if settings.data is not None:
        return [read_mix(settings.data, settings.rows)]
    return [make_mix(size, settings.rows, settings.seed, tokenizer.count) for size in settings.mixes]


def _ours(settings: Settings, subject: Subject) -> Iterator[Ours]:
    """Our engine; with one prompt at a time; sharing nothing; reusing keys; in our default dtype; as `also` says."""
    config = CompressionConfig(method=settings.method, rate=settings.rate)
    scorer = subject.scorer(settings.batch_tokens)
    yield Ours("lingua", subject, scorer, config)
    yield Ours("lingua, one prompt at a time", subject, scorer, config, programs=1)
    yield Ours("lingua, nothing shared", subject, scorer, config, forgetful=True)
    if settings.method in ITERATIVE:
        reuse = CompressionConfig(method=settings.method, rate=settings.rate, reuse_keys=True)
        yield Ours("lingua, keys reused", subject, scorer, reuse)
    if choose_dtype("auto", subject.device) != subject.dtype:
        default = _subject(settings, "auto")
        yield Ours(f"lingua, {default.model.dtype}", default, default.scorer(settings.batch_tokens), config)
    for way in settings.also:
        yield _evidence(settings, subject) if way == "evidence" else _computed(settings, config, way)


def _computed(settings: Settings, config: CompressionConfig, way: str) -> Ours:
    subject = _subject(settings, settings.dtype)
    return Ours(f"lingua, {way}", subject, subject.scorer(settings.batch_tokens, way), config)


def _evidence(settings: Settings, subject: Subject) -> Ours:
    """The default method: it asks an encoder of sentences, and of the model only how it cuts text into tokens."""
    config = CompressionConfig(method="evidence", rate=settings.rate)
    loader = Loader(resolve(config.focus_model), settings.device, "float32")
    reader = SourceTokenizer(loader.tokenizer())
    return Ours("lingua, method evidence", subject, loader.scorer("sentences"), config, reader=reader)


def _subject(settings: Settings, dtype: str) -> Subject:
    return load_subject(settings.model, (settings.device, dtype), settings.method, settings.seed)


def _theirs(
    settings: Settings, subject: Subject, stack: contextlib.ExitStack
) -> tuple[list[Contender], dict[str, str]]:
    """The peer with the same weights, and its versions; nobody, and why, where it cannot run."""
    options = peer_options(settings.method, settings.rate)
    if options is None:
        return [], {"missing": f"llmlingua has no method {settings.method}"}
    if not settings.peer_python.exists():
        return [], {"missing": f"no interpreter {settings.peer_python}; run python -m jobs.benchmarking.setup_peer"}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lingua-benchmark-")))
    dtype = str(subject.dtype).removeprefix("torch.")
    model = str(subject.for_peer(folder))
    wanted = PeerSettings(model, str(subject.device), dtype, subject.is_encoder, torch.get_num_threads())
    try:
        peer = stack.enter_context(Peer(wanted, settings.peer_python, settings.peer_path))
    except PeerError as error:
        return [], {"missing": str(error).splitlines()[0]}
    return [Theirs(peer, options)], peer.versions


if __name__ == "__main__":
    sys.exit(main())
