"""Stand-ins for commands that a script calls: each notes its arguments and does what the test says."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


class Stubs:
    """A folder of executables for PATH; `calls` is what was called so far, one line each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._log = folder / "calls"
        self._log.touch()

    def add(self, name: str, body: str = "") -> None:
        """An executable that notes its call and then runs `body` in bash."""
        file = self.folder / name
        file.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "{self._log}"\n{body}\n')
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()

    def start(self, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """The command, with these executables before all others."""
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder), **variables}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def wait_for(self, beginning: str, seconds: float = 20) -> str:
        """The first call that begins so, once it was made."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for call in self.calls:
                if call.startswith(beginning):
                    return call
            time.sleep(0.02)
        raise TimeoutError(f"no call {beginning!r} among {self.calls}")
