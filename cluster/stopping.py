"""How a run ends: exit codes of its errors, and why it should stop before its end, gathered in one `StopRequest`.

`on_signals` must be entered after Ray is initialised, which installs handlers of its own. The first signal asks for a
clean end within the grace time, a second one for an end at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cluster.errors import ClusterError
from cluster.storage.local import full_scratch, is_full
from lingua.errors import LinguaError
from lingua.explain import in_words, public

EXIT_ABORTED = 1
EXIT_SETTINGS = 2


def exit_code(job: Callable[[], int], aborted: int = EXIT_ABORTED) -> int:
    """What `job` returns; 2 for wrong settings, `aborted` for a run that had to stop, each said on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # of a locale that lacks our marks, or the name of a file
        sys.stdout.reconfigure(errors="replace")
    try:
        return job()
    except LinguaError as error:
        print(f"error: {public(str(error))}", file=sys.stderr)
        return EXIT_SETTINGS
    except ClusterError as error:
        print(f"error: {public(str(error))}", file=sys.stderr)
        return aborted
    except OSError as error:  # of a disk at hand: stores' errors are mapped where they are asked
        print(f"error: {full_scratch() if is_full(error) else in_words(error)}", file=sys.stderr)
        return aborted


class StopRequest:
    """A stop request that any thread may set: `reason` in words, the `exit_code`, `at_once` for one without grace."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.exit_code = EXIT_ABORTED
        self.at_once = False

    def ask(self, reason: str, exit_code: int = EXIT_ABORTED) -> None:
        """Ask to stop; the first reason counts."""
        if self.reason is None:
            self.reason, self.exit_code = reason, exit_code

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.at_once = self.reason is not None
        self.ask(signal.Signals(number).name, 128 + number)


@contextmanager
def on_signals(stop: StopRequest) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT ask `stop` to stop; only the main thread may have them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def grace_seconds() -> float:
    """How long a stopping run may take: `ray job stop` kills after RAY_JOB_STOP_WAIT_TIME_S (3 s unless set)."""
    try:
        wait = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", 3))
    except ValueError:
        wait = 3.0
    return min(max(1.0, wait - 2.0), 3600.0)
