"""`python -m jobs.benchmark`: how fast is our engine against the public llmlingua and the hardware?

All are measured in one run, in turn, on the same texts and weights: what counts are the ratios. Needs no Ray.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarking.contenders import Contender, Ours, Theirs
from jobs.benchmarking.measure import Plan, Rounds, measure_mix
from jobs.benchmarking.mixes import Mix, make_mix, read_mix
from jobs.benchmarking.peer import Peer, PeerSettings, peer_options
from jobs.benchmarking.report import make_report
from jobs.benchmarking.settings import Settings, parse
from jobs.benchmarking.subject import Subject, load_subject
from jobs.benchmarking.table import markdown
from lingua.config import CompressionConfig
from lingua.errors import LinguaError
from lingua.models.load import Loader, choose_device, choose_dtype, require_compiler
from lingua.models.sizing import Allowance
from lingua.models.source import resolve
from lingua.text.tokens import SourceTokenizer

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
    """Measure everything, write the report whenever something is measured, print the table."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if "compile" in settings.also:
        require_compiler(choose_device(settings.device))
    subject = _subject(settings, settings.dtype)
    tokenizer = SourceTokenizer(subject.tokenizer)
    mixes = _mixes(settings, tokenizer)
    with contextlib.ExitStack() as stack:
        theirs = _theirs(settings, subject, stack)
        ours = list(_ours(settings, subject))
        contenders: list[Contender] = [*ours, *([theirs] if isinstance(theirs, Theirs) else [])]
        plan = Plan(settings.rounds, settings.slow_rows, contenders, tokenizer.count, "plain" in settings.only)
        done: dict[str, Rounds] = {}
        for rounds in itertools.chain.from_iterable(measure_mix(mix, plan) for mix in mixes):
            done[rounds.mix.name] = rounds
            report = make_report(settings, ours[0], list(done.values()), _peer(theirs))
            _write(settings.output, report)
    print(markdown(report))


def _write(folder: Path | None, report: dict[str, Any]) -> None:
    """Replace the report, whole at any moment."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("benchmark.json", json.dumps(report, indent=2) + "\n"), ("benchmark.md", markdown(report))):
        (folder / f"{name}.part").write_text(text, encoding="utf-8")
        (folder / f"{name}.part").replace(folder / name)


def _mixes(settings: Settings, tokenizer: SourceTokenizer) -> list[Mix]:
    if settings.data is not None:
        return [read_mix(settings.data, settings.rows)]
    return [make_mix(size, settings.rows, settings.seed, tokenizer.count) for size in settings.mixes]


def _ours(settings: Settings, subject: Subject) -> Iterator[Ours]:
    """Our engine; with one prompt at a time; sharing nothing; in our default dtype; as `also` says."""
    config, only = CompressionConfig(method=settings.method, rate=settings.rate), settings.only
    scorer = subject.scorer(_allowance(settings))
    yield Ours("lingua", subject, scorer, config)
    if "single" in only:
        yield Ours("lingua, one prompt at a time", subject, scorer, config, programs=1)
    if "unshared" in only:
        yield Ours("lingua, nothing shared", subject, scorer, config, forgetful=True)
    if "default" in only and choose_dtype("auto", subject.device) != subject.dtype:
        default = _subject(settings, "auto")
        yield Ours(f"lingua, {default.model.dtype}", default, default.scorer(_allowance(settings)), config)
    for way in settings.also:
        yield _evidence(settings, subject) if way == "evidence" else _computed(settings, config, way)


def _computed(settings: Settings, config: CompressionConfig, way: str) -> Ours:
    subject = _subject(settings, settings.dtype)
    return Ours(f"lingua, {way}", subject, subject.scorer(_allowance(settings), way), config)


def _allowance(settings: Settings) -> Allowance:
    return Allowance(settings.batch_tokens, settings.gpu_memory)


def _evidence(settings: Settings, subject: Subject) -> Ours:
    """The default method: it asks an encoder of sentences, and of the model only how it cuts text into tokens."""
    config = CompressionConfig(method="evidence", rate=settings.rate)
    loader = Loader(resolve(config.own.second_model or ""), settings.device, "float32")
    reader = SourceTokenizer(loader.tokenizer())
    return Ours("lingua, method evidence", subject, loader.scorer("sentences"), config, reader=reader)


def _subject(settings: Settings, dtype: str) -> Subject:
    return load_subject(settings.model, (settings.device, dtype), settings.method, settings.seed)


def _theirs(settings: Settings, subject: Subject, stack: contextlib.ExitStack) -> Theirs | str:
    """The peer, which gets the same weights when it is its turn; why it cannot run."""
    options = peer_options(settings.method, settings.rate)
    if options is None:
        return f"llmlingua has no method {settings.method}"
    if "llmlingua" not in settings.only:
        return "not asked for"
    if not settings.peer_python.exists():
        return f"no interpreter {settings.peer_python}; run python -m jobs.benchmarking.setup_peer"

    def begin() -> Peer:
        folder = tempfile.TemporaryDirectory(prefix="lingua-benchmark-")
        model = str(subject.for_peer(Path(stack.enter_context(folder))))
        dtype = str(subject.dtype).removeprefix("torch.")
        wanted = PeerSettings(model, str(subject.device), dtype, subject.is_encoder, torch.get_num_threads())
        return stack.enter_context(Peer(wanted, settings.peer_python, settings.peer_path))

    return Theirs(begin, options)


def _peer(theirs: Theirs | str) -> dict[str, str]:
    """The peer's versions; why it was not measured."""
    if isinstance(theirs, str):
        return {"missing": theirs}
    return theirs.peer.versions if theirs.peer else {"missing": "it has not started yet"}


if __name__ == "__main__":
    sys.exit(main())
