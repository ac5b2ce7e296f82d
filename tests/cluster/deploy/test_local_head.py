"""A cluster on one machine: a shell does what the page says, and the head that it starts is gone at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.deploy.manifests import ROOT
from tests.docs.walk import DOCS, blocks

PORTS = ("6380", "8266", "8267")
NOTES = '{"text": "The barges could not wait, said the clerk, and so they left."}\n' * 3 + '{"text": null}\n'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a reader whose Ray keeps its files in a folder of its own, with a path short enough for it."""
    (tmp_path / "notes.jsonl").write_text(NOTES)
    folder = tempfile.mkdtemp(prefix="lingua-head-")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    yield {**known, "PATH": path, "PYTHONPATH": python, "RAY_TMPDIR": folder}
    shutil.rmtree(folder, ignore_errors=True)


def script() -> tuple[str, str]:
    """The section's commands, with a line between what its blocks print, and the output that it shows."""
    found = blocks(DOCS / "deployment.md", "A cluster on one machine")
    commands = [text for language, text in found if language == "bash"]
    (shown,) = [text for language, text in found if language == "text"]
    return "echo =====\n".join(commands), shown


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.mark.ray
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_job_is_submitted_to_a_head_of_ones_own_as_the_page_says(tmp_path: Path, shell: dict[str, str]) -> None:
    lines, shown = script()
    for port in PORTS:
        lines = lines.replace(port, free_port())
    done = subprocess.run(
        ["bash", "-euc", lines + "wait || true"], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, submitted, verified, _ = done.stdout.split("=====\n")
    assert "Complete: the only shard is committed.\n  rows       4: 3 compressed" in submitted
    assert verified == shown
    running = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    assert not [line for line in running if shell["RAY_TMPDIR"] in line]
