"""The command for a GPU, on a CPU with tiny shapes: steps that end, goals beside numbers, nothing lost."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmark import BenchmarkConfig
from jobs.benchmarking.gpu import GpuReport, Step, main, steps
from jobs.benchmarking.rounds import page as markdown
from tests import forks
from tests.jobs.peers import stand_in

ROOT = Path(__file__).resolve().parents[3]
TRIED = ("tests", "probe", "small", "large", "encoder", "mixed", "actors")
"""All but the compiler, which takes minutes on a CPU."""
SLOW = """
import json, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1].removeprefix("--output="))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(folder / "found.json").write_text(json.dumps({"child": child.pid}))
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all steps, with a peer."""
    folder, packages = tmp_path_factory.mktemp("gpu"), stand_in(tmp_path_factory.mktemp("packages"))
    wanted = [f"--step={name}" for name in TRIED]
    ended = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("subprocess.Popen", forks.Fork)
        main(["--small", f"--output={folder}", *wanted, f"--peer-python={sys.executable}", f"--peer-path={packages}"])
    signal.signal(signal.SIGTERM, ended)
    return folder


@pytest.fixture
def report(written: Path) -> dict[str, Any]:
    return json.loads((written / "gpu.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.timeout(600)
def test_every_step_runs_to_its_end_and_leaves_what_it_found(report: dict[str, Any]) -> None:
    assert {name: step["status"] for name, step in report["steps"].items()} == dict.fromkeys(TRIED, "done")
    assert all(step["found"] for step in report["steps"].values())
    assert report["device"]["type"] == "cpu"
    assert "torch" in report["versions"]


def test_an_encoder_is_measured_with_its_own_method_beside_the_peer(report: dict[str, Any]) -> None:
    found = report["steps"]["encoder"]["found"]
    assert found["settings"]["method"] == "llmlingua2"
    assert [(mix["failed"], "llmlingua" in mix["contenders"]) for mix in found["mixes"]] == [({}, True)]


def test_packed_answers_are_those_of_the_plain_model_and_depend_on_what_stands_before(report: dict[str, Any]) -> None:
    found = report["steps"]["probe"]["found"]
    assert found["packed_against_plain"]["largest"] < 1e-4
    assert found["context_changes"]["largest"] > 1e-2


def test_a_profile_can_be_read_and_opened(written: Path) -> None:
    assert "aten::mm" in (written / "probe" / "profile.txt").read_text(encoding="utf-8")
    assert (written / "probe" / "trace.json.gz").stat().st_size > 1_000


def test_several_actors_compress_together(report: dict[str, Any]) -> None:
    actors = report["steps"]["actors"]["found"]["actors"]
    assert list(actors) == ["1", "2"]
    assert all(one["model_tokens_per_second"] > one["tokens_per_second"] > 0 for one in actors.values())


def test_goals_stand_beside_what_was_reached(written: Path, report: dict[str, Any]) -> None:
    page = (written / "gpu.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (.*) \| [≤≥] \S+ \| not measured \| \|$", page, re.MULTILINE)) == {
        "lines that wait for the device while a batch is launched",
        "the same, compiled",
        "the same: idle, with as many actors as it takes",
    }
    assert "## large: shape:tiny, fewshot" in page
    assert page == markdown("gpu", **report)


def test_a_goal_says_whether_it_was_reached() -> None:
    def shown(tests: dict[str, Any] | None) -> list[str]:
        steps = {"tests": {"status": "done", "found": tests}}
        lines = markdown("gpu", device=None, versions=None, steps=steps).splitlines()
        return [line for line in lines if line.startswith("| tests that")]

    assert shown({"passed": 7, "failed": ["one"]}) == [
        "| tests that passed | ≥ 1 | 7 | reached |",
        "| tests that failed | ≤ 0 | 1 | **missed** |",
    ]
    assert shown(None) == [
        "| tests that passed | ≥ 1 | not measured | |",
        "| tests that failed | ≤ 0 | not measured | |",
    ]


def test_a_step_that_takes_too_long_ends_with_all_that_it_started_and_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    done = GpuReport(tmp_path)
    done.measure(Step("slow", 3, ("-c", SLOW), "found.json"), tmp_path / "scratch", 3)
    kept = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["steps"]["slow"]
    assert (kept["status"], kept["said"]) == ("stopped at its limit", ["begun"])
    assert _ended(kept["found"]["child"])


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


def test_without_time_no_step_begins_and_the_report_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.benchmarking.gpu", "--small", f"--output={tmp_path}", "--seconds=1"]
    assert forks.run(command, timeout=100).returncode == 1
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["steps"]
    assert {step["status"] for step in found.values()} == {"not begun: no time was left"}


def test_every_benchmark_of_the_full_size_has_settings_that_are_known() -> None:
    commands = [step.command for step in steps(peer=["--peer-path=/packages"]) if step.command[1] == "jobs.benchmark"]
    settings = [BenchmarkConfig.load(command[2:]) for command in commands]
    assert [one.model for one in settings][:3] == ["shape:smollm2-135m", "shape:llama-2-7b", "shape:xlm-roberta-large"]
    assert {(one.device, one.dtype, str(one.peer_path)) for one in settings} == {("cuda", "bfloat16", "/packages")}


def test_the_page_names_steps_that_exist() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--step (\w+)", page))
    assert named
    assert named <= {step.name for step in steps()}
