"""Processes of tests that begin where the imports have ended: forks of a server that has loaded torch and our packages.

A new interpreter takes seconds of the processor to import what a fork has at once. Otherwise a fork is a process like
any other, with an id, a group, an environment, an exit code and signals of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
_SERVER, _FORKING = (multiprocessing.get_context(method) for method in ("forkserver", "fork"))
_SERVER.set_forkserver_preload(
    ["jobs.benchmark", "jobs.compress", "lingua.models.load", "transformers.models.llama.modeling_llama"]
)


class Fork:
    """`python -m MODULE FLAGS …`, with those arguments and answers of `subprocess.Popen` that tests and jobs use.

    It runs in the project's folder, whatever `cwd` says; what it says is text.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        process_group: int | None = None,
        cwd: Path = ROOT,
    ) -> None:
        assert list(command[:2]) == [sys.executable, "-m"], command
        self.args = list(command)
        files = [_path(stdout), _path(stderr)]
        self._said = [file for file, stream in zip(files, (stdout, stderr), strict=True) if stream == subprocess.PIPE]
        if stderr == subprocess.STDOUT:
            files[1] = files[0]
        given = self.args[2:], dict(os.environ if env is None else env), files, process_group is not None
        self._process = _SERVER.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> list[str]:
        """What it said to its pipes, once it has ended."""
        self.wait(timeout)
        return [Path(file).read_text(encoding="utf-8") for file in self._said]

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run(command: Sequence[str], timeout: float, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of a fork, its output captured."""
    process = Fork(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **arguments)
    try:
        said = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


def _path(stream: IO[Any] | int | None) -> str | None:
    """Where a fork writes what goes to this stream, a file in memory for a pipe; None: where the tests write."""
    if stream == subprocess.PIPE:
        return f"/proc/{os.getpid()}/fd/{os.memfd_create('pipe')}"
    if stream == subprocess.DEVNULL:
        return os.devnull
    return str(stream.name) if hasattr(stream, "name") else None


def _run(command: Sequence[str], environment: Mapping[str, str], files: Sequence[str | None], group: bool) -> None:
    """In the fork: what an interpreter does for ``-m``, without its start."""
    if group:
        os.setpgid(0, 0)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        if file is not None:
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    multiprocessing.get_context = lambda _: _FORKING  # type: ignore[assignment]  # what it starts is forked, too
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
