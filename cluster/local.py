"""Whole files on a disk: complete in a temporary file first, then under their name in one step.

A hard link fails when the name is taken, which makes it the disk's conditional put; `open("xb")` would be exclusive too
but shows a file that is still being written. Temporary names begin with `TEMPORARY`, so that what a killed process
left can be found and removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.errors import AbortRun, RetryShard

TEMPORARY = "_tmp-"
_NO_LINKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EMLINK})


def create_whole(path: Path, data: bytes | Path) -> None:
    """Put a whole file under a free name. FileExistsError when the name is taken, of many racing one wins."""
    with _complete(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise _swept(path) from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise AbortRun(_no_links(path, error)) from None
            raise


def replace_whole(path: Path, data: bytes) -> None:
    """Put a whole file, over an older one if there is one."""
    with _complete(path, data) as temporary:
        try:
            temporary.replace(path)
        except FileNotFoundError:
            raise _swept(path) from None


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
    """A temporary file beside `path` with all of `data`, on the disk and not only in its cache."""
    _make_folder(path.parent)
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
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:  # not to be taken for a name that another writer took
        there = "a link that leads nowhere" if os.path.islink(error.filename) else "a file"
        raise AbortRun(
            f"{error.filename}: there is {there} where a directory is needed; choose another output"
        ) from None


def _swept(path: Path) -> RetryShard:
    return RetryShard(f"{path}: the temporary file was removed by another run's clean-up")


def _no_links(path: Path, error: OSError) -> str:
    return (
        f"cannot create {path}: this filesystem has no hard links ({error.strerror}), which commits rest on; "
        "write to a local disk, or to the object store directly by its URL"
    )
