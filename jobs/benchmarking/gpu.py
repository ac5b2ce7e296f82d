"""`python -m jobs.benchmarking.gpu`: everything that is measured on a GPU, in nine minutes.

Every step is a process group of its own that ends at its limit; what it wrote to DIR/STEP until then counts, beside
what it said (log). The weights are random in published shapes: no download, no Ray, no network. DIR/gpu.json and
DIR/gpu.md are whole at any moment. `--small` tries everything out on a CPU with tiny shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.benchmarking.rounds import Found, page, write

ROOT = Path(__file__).resolve().parents[2]
TOTAL_SECONDS = 530.0
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
    "TORCHINDUCTOR_CACHE_DIR": f"{tempfile.gettempdir()}/lingua-inductor",
}
"""Unless the caller's says otherwise. cuDNN's attention makes a plan for every new length, which would slow the peer
and the plain forward down; what one step compiled serves the next."""
_VERDICT = re.compile(r"^(\S+::.*) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
_SHARED_MEMORY, _ROOM = Path("/dev/shm"), 40 << 30
"""Where the peer's copy of the largest weights goes if so many bytes are free there."""
_LAST_WORDS = 12
_LEAST_SECONDS = 5

_STEPS = """
tests    100 pytest -m gpu -o addopts= -o filterwarnings=default -vv --color=no -p no:cacheprovider
probe     90 jobs.benchmarking.probe --model shape:smollm2-135m
small     80 jobs.benchmark --model shape:smollm2-135m --mix fewshot --rows 256 --gpu-memory 0.6 {both} --rounds 2
large    115 jobs.benchmark --model shape:llama-2-7b --mix fewshot --rows 64 --gpu-memory 0.6 {both}
encoder   70 jobs.benchmark --model shape:xlm-roberta-large --method llmlingua2 --mix long:5000 --rows 64 {both}
compile  130 jobs.benchmark --model shape:smollm2-135m --mix fewshot --rows 256 --beside compile
mixed     70 jobs.benchmark --model shape:smollm2-135m --mix mixed --rows 256 --beside llmlingua
actors    90 jobs.benchmarking.actors --model shape:smollm2-135m --mix fewshot --rows 128
"""
"""In the order in which they count: name, limit in seconds, module and flags, which stand behind those of `steps`."""
_SMALL = {
    "shape:smollm2-135m": "shape:tiny",
    "shape:llama-2-7b": "shape:tiny",
    "shape:xlm-roberta-large": "shape:tiny-encoder",
    **{mix: f"{mix.partition(':')[0]}:80" for mix in ("fewshot", "long:5000", "mixed")},
    **dict.fromkeys(("64", "128"), "2") | {"256": "4"},
}
"""What stands for a word of a command with ``--small``."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of this interpreter, its limit, and the file of its folder in which it leaves what it found."""

    name: str
    seconds: float
    command: tuple[str, ...]
    result: str | None


def steps(small: bool = False, peer: Sequence[str] = ()) -> Iterator[Step]:
    """All steps; `peer`: flags that say where it is."""
    place = ("--device", "cpu", "--dtype", "float32") if small else ("--device", "cuda", "--dtype", "bfloat16")
    further = {
        "jobs.benchmark": (*place, "--slow-rows", "2", "--rounds", "1", *peer),
        "jobs.benchmarking.probe": place,
        "jobs.benchmarking.actors": (*place, *(f"--actors={number}" for number in ((1, 2) if small else (1, 2, 4, 8)))),
    }
    for name, seconds, words in (line.split(maxsplit=2) for line in _STEPS.strip().splitlines()):
        module, *flags = words.format(both="--beside llmlingua --beside plain").split()
        given = [_SMALL.get(flag, flag) if small else flag for flag in flags]
        result = None if module == "pytest" else f"{module.rpartition('.')[2]}.json"
        yield Step(name, float(seconds), ("-m", module, *further.get(module, ()), *given), result)


@dataclass(slots=True)
class GpuReport:
    """Everything so far; `take` writes it, whole at any moment."""

    folder: Path
    found: Found = field(default_factory=lambda: {"device": None, "versions": None, "steps": {}})

    def take(self, step: str, **known: Any) -> None:
        """Take in what is known of a step."""
        self.found["steps"].setdefault(step, {}).update(known)
        for key in ("device", "versions"):
            self.found[key] = self.found[key] or (known.get("found") or {}).get(key)
        write(self.folder, "gpu", self.found, page("gpu", **self.found))

    def measure(self, step: Step, scratch: Path, seconds: float) -> None:
        """Run a step for at most so many seconds, then end all that it started and take in what it has written."""
        folder, started, status = self.folder / step.name, time.monotonic(), "broken off"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
        folder.mkdir()
        process = _begin(step, folder, scratch)
        try:
            code = process.wait(seconds)
            status = "done" if code == 0 else f"failed, exit {code}"
        except subprocess.TimeoutExpired:
            status = "stopped at its limit"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            spent = {"status": status, "seconds": round(time.monotonic() - started, 1)}
            said = {} if status == "done" else {"said": _said(folder).splitlines()[-_LAST_WORDS:]}
            command = " ".join(("python", *step.command))
            self.take(step.name, **spent, **said, command=command, found=_found(step, folder))


def _begin(step: Step, folder: Path, scratch: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, *step.command, *([f"--output={folder}"] if step.result else [])]
    given = {**ENVIRONMENT, **os.environ, "TMPDIR": str(scratch)}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, process_group=0, env=given)


def _said(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8", errors="replace")


def _found(step: Step, folder: Path) -> Found | None:
    """What a step has written so far; of tests, their verdicts."""
    if step.result is None:
        verdicts = _VERDICT.findall(_said(folder))
        counts = {kind: sum(kind.upper() == verdict for _, verdict in verdicts) for kind in ("passed", "skipped")}
        return {**counts, "failed": [name for name, verdict in verdicts if verdict in ("FAILED", "ERROR")]}
    with suppress(FileNotFoundError, ValueError):  # not there yet, or half of it
        return json.loads((folder / step.result).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """0: every step ran to its end. 1: some did not."""
    flags = _parser().parse_args(argv)
    flags.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step at hand ends too
    ends, report = time.monotonic() + flags.seconds, GpuReport(flags.output)
    roomy = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > _ROOM else None
    where = {"--peer-python": flags.peer_python, "--peer-path": flags.peer_path}
    for step in steps(flags.small, [f"{flag}={path}" for flag, path in where.items() if path]):
        left = ends - time.monotonic()
        if flags.step and step.name not in flags.step:
            continue
        if left < _LEAST_SECONDS:
            report.take(step.name, status="not begun: no time was left")
            continue
        with tempfile.TemporaryDirectory(prefix="lingua-gpu-", dir=roomy) as scratch:
            report.measure(step, Path(scratch), min(step.seconds, left))
        print(f"{step.name}: {report.found['steps'][step.name]['status']}", flush=True)
    print(page("gpu", **report.found))
    return int(any(one["status"] != "done" for one in report.found["steps"].values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmarking.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--small", action="store_true", help="tiny shapes on a CPU, to try the command out")
    names = [step.name for step in steps()]
    parser.add_argument("--step", action="append", choices=names, help="only this one, repeatable")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all (default %(default).0f)")
    parser.add_argument("--peer-python", help="the peer's interpreter, as in jobs.benchmark")
    parser.add_argument("--peer-path", help="folder with the peer's packages, as in jobs.benchmark")
    return parser


if __name__ == "__main__":
    sys.exit(main())
