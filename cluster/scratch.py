"""`Scratch`: a folder on the local disk for unfinished files, which also goes when its process was killed.

Its owner holds a lock in it as long as it lives; whoever makes the next folder removes those whose lock is free.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import AbortRun

PREFIX = "lingua-part-"
GRACE = 60.0
"""Seconds for which a new folder is let alone: it exists a moment before its lock does."""


class Scratch:
    """An empty folder at `path` until `close`."""

    def __init__(self) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = (self.path / ".lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove it and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    try:
        if time.time() - folder.stat().st_mtime < GRACE:
            return False
        with (folder / ".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, gone already, or somebody else's
        return False
    return True


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it comes from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


@contextmanager
def filling() -> Iterator[None]:
    """AbortRun where the disk of unfinished parts turns out to be full."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise AbortRun(full_scratch()) from None
        raise


def full_scratch() -> str:
    """What to say then of the local disk."""
    folder = tempfile.gettempdir()
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        free = "it cannot be looked at"
    return (
        f"the disk for unfinished parts is full ({folder}: {free}); a part and its rejects must fit there: free some, "
        "name a larger one with TMPDIR, or give a smaller shard_size"
    )
