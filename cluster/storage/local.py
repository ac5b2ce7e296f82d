"""The local disk: whole files that appear in one step, and scratch folders for unfinished ones.

A file is complete in a temporary file first, then under its name in one step. A hard link fails when the name is taken,
which makes it the disk's conditional put; `open("xb")` would be exclusive too but shows a file that is still being
written. Temporary names begin with `TEMPORARY`, so that what a killed process left can be found and removed.

A `Scratch` folder holds a lock as long as its owner lives; whoever makes the next one removes those whose lock is free.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.errors import AbortRun, RetryShard

TEMPORARY = "_tmp-"
_NO_LINKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EMLINK})
SCRATCH_PREFIX = "lingua-part-"
SCRATCH_GRACE = 60.0
"""Seconds for which a new folder is let alone: it exists a moment before its lock does."""


def create_whole(path: Path, data: bytes | Path) -> None:
    """Put a whole file under a free name. FileExistsError when the name is taken, of many racing one wins."""
    with _complete(path, data) as temporary:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise AbortRun(
                f"cannot create {path}: this filesystem has no hard links ({error.strerror}), which commits rest on; "
                "write to a local disk, or to the object store directly by its URL"
            ) from None


def replace_whole(path: Path, data: bytes) -> None:
    """Put a whole file, over an older one if there is one."""
    with _complete(path, data) as temporary:
        temporary.replace(path)


def files_in(folder: str) -> list[tuple[str, int]]:
    """Names and sizes in bytes of the files directly in a folder, links followed, by name."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # gone by now, or a link that leads nowhere
                if entry.is_file():
                    found.append((entry.name, entry.stat().st_size))
    return sorted(found)


@contextmanager
def _complete(path: Path, data: bytes | Path) -> Iterator[Path]:
    """A temporary file beside `path` with all of `data`, on the disk and not only in its cache.

    RetryShard where it is gone when it is to get its name.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):  # not to be taken for a name that another writer took
        raise AbortRun(in_the_way(str(path.parent))) from None
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            if isinstance(data, Path):
                with data.open("rb") as content:
                    shutil.copyfileobj(content, file, 1 << 20)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            yield temporary
        except FileNotFoundError:
            raise RetryShard(f"{path}: the temporary file was removed by another run's clean-up") from None
    finally:
        temporary.unlink(missing_ok=True)


def in_the_way(folder: str) -> str:
    """What is wrong where something else stands in the place of a folder, or of one above it; "" if nothing does."""
    place = next(str(one) for one in (folder, *Path(folder).parents) if os.path.lexists(str(one)))
    there = "a file" if os.path.exists(place) else "a link that leads nowhere"
    told = f"{place}: there is {there} where a directory is needed; choose another output"
    return "" if os.path.isdir(place) else told


def disk_info(path: str, found: os.stat_result) -> dict[str, Any]:
    """What fsspec tells of a file, links followed; `identity`: its real path, `inode`: what its hard links share."""
    return {
        "name": path,
        "size": found.st_size,
        "type": "directory" if stat.S_ISDIR(found.st_mode) else "file" if stat.S_ISREG(found.st_mode) else "other",
        "mtime": found.st_mtime,
        "identity": os.path.realpath(path),
        "inode": f"inode:{found.st_dev}:{found.st_ino}" if found.st_nlink > 1 and found.st_ino else None,
    }


class Scratch:
    """An empty folder at `path` until `close`."""

    def __init__(self) -> None:
        for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
            if _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        self.path = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        self._lock = (self.path / ".lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _abandoned(folder: Path) -> bool:
    try:
        if time.time() - folder.stat().st_mtime < SCRATCH_GRACE:
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
