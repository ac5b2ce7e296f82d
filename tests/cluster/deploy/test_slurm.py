"""The Slurm script, run by bash with stand-ins for Slurm, Ray and the job."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.config import JobConfig
from tests.cluster.deploy.manifests import files
from tests.cluster.deploy.stubs import Stubs

SCRIPTS = files(".sh")
SCRIPT = next(path for path in SCRIPTS if path.parent.name == "slurm")
UNTIL_TERM = 'trap "exit 143" TERM; for _ in {1..300}; do sleep 0.05; done; exit 9'
"""A job that ends well only when it is asked to."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_bash_can_read_it(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True).stderr == b""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    assert subprocess.run(["shellcheck", script], capture_output=True).stdout == b""


def test_slurm_is_asked_for_what_the_script_counts_on() -> None:
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(\S*)", SCRIPT.read_text(), re.MULTILINE))
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("B:USR1@")
    grace = re.search(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", SCRIPT.read_text())
    assert grace is not None
    assert int(grace[1]) < int(options["signal"].partition("@")[2])
    assert "requeue" in options


class Run:
    """The script under way on `nodes` nodes with `gpus` each; `job` is what stands in for the driver."""

    def __init__(self, folder: Path, job: str, nodes: int = 3, flags: Sequence[str] = (), gpus: int = 0) -> None:
        self.stubs = Stubs(folder)
        (folder / "venv" / "bin").mkdir(parents=True)
        (folder / "venv" / "bin" / "activate").touch()
        names = " ".join(f"node{number}" for number in range(nodes))
        self.stubs.add("scontrol", f'[[ $1 == show ]] && printf "%s\\n" {names}; true')
        self.stubs.add("srun", '[[ $* == *"hostname --ip-address" ]] && echo "10.0.0.7 fe80::1"; true')
        self.stubs.add("ray", "true")
        self.stubs.add("python", f"if [[ $1 == -c ]]; then echo token-$RANDOM; exit; fi\n{job}")
        self.process = self.stubs.start(
            "bash",
            str(SCRIPT),
            *flags,
            VENV=str(folder / "venv"),
            INPUT="/data/corpus",
            OUTPUT="/data/compressed",
            SLURM_JOB_ID="4242",
            SLURM_JOB_NODELIST="node[0-2]",
            SLURM_CPUS_PER_TASK="32",
            **({"SLURM_GPUS_ON_NODE": str(gpus)} if gpus else {}),
        )

    def end(self) -> int:
        _, complaints = self.process.communicate(timeout=30)
        assert complaints == b""
        return self.process.returncode


def test_every_node_starts_ray_and_the_job_asks_for_every_processor(tmp_path: Path) -> None:
    run = Run(tmp_path, f'echo "at $RAY_ADDRESS" >> "{tmp_path}/calls"')
    assert run.end() == 0
    head = run.stubs.wait_for("srun --nodes=1 --ntasks=1 --nodelist=node0 ray start --head")
    assert "--node-ip-address=10.0.0.7 --port=24242" in head
    assert head.endswith("--num-cpus=32")
    others = run.stubs.wait_for("srun --nodes=2 --ntasks=2 --exclude=node0 ray start")
    assert others.endswith("--address=10.0.0.7:24242 --num-cpus=32")
    config = JobConfig.load(run.stubs.wait_for("python -m jobs.compress").split()[3:], {})
    assert (config.workers, config.cpus_per_worker) == (96, 1)
    assert "at 10.0.0.7:24242" in run.stubs.calls
    assert config.gpus_per_worker is None
    assert config.inputs == ("/data/corpus",)


def test_where_there_are_gpus_the_job_asks_for_all_of_them_and_takes_flags(tmp_path: Path) -> None:
    run = Run(tmp_path, "exit 0", flags=["--method", "llmlingua"], gpus=4)
    assert run.end() == 0
    config = JobConfig.load(run.stubs.wait_for("python -m jobs.compress").split()[3:], {})
    assert (config.workers, config.gpus_per_worker, config.compression.method) == (12, 1, "llmlingua")


def test_one_node_is_enough(tmp_path: Path) -> None:
    run = Run(tmp_path, "exit 0", nodes=1)
    assert run.end() == 0
    assert not any("--exclude" in call for call in run.stubs.calls)


def test_the_jobs_own_exit_code_is_the_scripts_and_a_failure_is_not_queued_again(tmp_path: Path) -> None:
    run = Run(tmp_path, "exit 2")
    assert run.end() == 2
    assert not any("requeue" in call for call in run.stubs.calls)


def test_when_time_runs_out_the_driver_stops_cleanly_and_is_queued_again(tmp_path: Path) -> None:
    run = Run(tmp_path, UNTIL_TERM)
    run.stubs.wait_for("python -m jobs.compress")
    run.process.send_signal(signal.SIGUSR1)
    assert run.end() == 143
    assert "scontrol requeue 4242" in run.stubs.calls


def test_a_cancelled_job_stops_and_stays_stopped(tmp_path: Path) -> None:
    run = Run(tmp_path, UNTIL_TERM)
    run.stubs.wait_for("python -m jobs.compress")
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 143
    assert not any("requeue" in call for call in run.stubs.calls)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    process = Stubs(tmp_path).start("bash", str(SCRIPT), INPUT="/data/corpus")
    _, complaints = process.communicate(timeout=30)
    assert process.returncode != 0
    assert b"OUTPUT: where to write it" in complaints
