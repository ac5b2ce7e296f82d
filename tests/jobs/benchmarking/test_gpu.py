"""The command for a GPU, on a CPU with tiny shapes: steps that end, what they measured until then, and the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs.peers import stand_in

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "jobs" / "benchmarking" / "gpu.sh"
TRIED = ("tests", "small", "encoder", "mixed", "actors")
"""All but the compiler, which takes minutes on a CPU, and what is the same at the size of the trial."""


def run(folder: Path, *steps: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SMALL": "1", "PYTHON": sys.executable, **variables}
    command = ["bash", str(SCRIPT), str(folder), *steps]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_every_step_runs_to_its_end_and_leaves_what_it_measured(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    packages = stand_in(tmp_path / "packages")
    done = run(tmp_path / "out", *TRIED, PEER=f"--peer-python={sys.executable} --peer-path={packages}")
    assert (done.stdout.splitlines(), done.returncode) == ([f"{name}: exit 0" for name in TRIED], 0), done.stderr
    for name in ("small", "encoder", "mixed"):
        found = json.loads((tmp_path / "out" / name / "benchmark.json").read_text(encoding="utf-8"))
        assert found["mixes"][0]["times_as_fast"]["llmlingua"]["median"] > 0
    actors = json.loads((tmp_path / "out" / "actors" / "actors.json").read_text(encoding="utf-8"))["actors"]
    assert list(actors) == ["1", "2"]
    assert all(one["model_tokens_per_second"] > one["tokens_per_second"] > 0 for one in actors.values())


def test_a_step_ends_at_its_limit_with_all_that_it_started(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/child\nsleep 600\n", encoding="utf-8")
    python.chmod(0o755)
    script = tmp_path / "jobs" / "benchmarking" / "gpu.sh"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT.read_text(encoding="utf-8").replace("step tests 100", "step tests 5"), encoding="utf-8")
    command = ["bash", str(script), str(tmp_path / "out"), "tests"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHON": str(python)}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("tests: exit 124 (stopped at its limit)\n", 1)
    assert _ended(int((tmp_path / "child").read_text(encoding="utf-8")))


def _ended(process: int) -> bool:
    """Whether a process is gone, or waits for nothing but to be forgotten."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


def test_the_page_names_steps_that_exist() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    steps = set(re.findall(r"^(?:step|benchmark) (\w+) \d+", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"gpu\.sh DIR (\w+)", page))
    assert named
    assert named <= steps
