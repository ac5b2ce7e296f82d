"""The lines of the page about schedules, run by a shell with a stand-in for the job."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from cluster.config import JobConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scheduled.md"
STAND_IN = """#!/bin/sh
echo "$@" >> calls
exit $(cat code)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory in which `python` and `date` are stand-ins that are told what to say."""
    for name, script in {"python": STAND_IN, "date": "#!/bin/sh\ncat day\n"}.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "snapshots").mkdir()
    return tmp_path


def start(folder: Path, day: str, code: int = 0) -> list[list[str]]:
    """Run the page's first lines on a day on which the job ends with `code`; all calls of the job so far."""
    lines, *_ = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "day").write_text(day)
    (folder / "code").write_text(str(code))
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", lines], cwd=folder, env={**os.environ, "PATH": path}, timeout=30, check=False)
    assert done.returncode == code
    return [call.split() for call in (folder / "calls").read_text().splitlines()]


def test_every_run_has_a_folder_of_its_own_and_the_shell_leaves_the_pattern_alone(folder: Path) -> None:
    (folder / "snapshots" / "sunday").mkdir()
    (first,) = start(folder, "monday")
    assert first[1:6] == ["jobs.compress", "--config", "job.yaml", "--output", "snapshots/monday"]
    assert first[6:] == ["--reuse", "snapshots/*"]
    assert start(folder, "tuesday", code=1)[-1][5:] == ["snapshots/tuesday", "--reuse", "snapshots/*"]


def test_the_job_understands_these_flags(folder: Path) -> None:
    (folder / "job.yaml").write_text(f"input: {folder}/corpus\n")
    flags = start(folder, "tuesday")[-1][2:]
    flags[flags.index("job.yaml")] = str(folder / "job.yaml")
    config = JobConfig.load(flags, {})
    assert config.reuse is not None
    assert config.reuse.endswith("snapshots/*")
