"""What a pattern stands for below a folder, on a disk and in an object store alike, and what it leaves out.

A pattern is a list of names with ``*``, ``?`` and ``[…]``; ``**`` is any number of folders. A wildcard never stands for
a ``.`` or ``_`` at the beginning of a name: what begins so is read only where the pattern spells that character. On a
disk, links to files and folders are followed; a folder is searched once for the same rest of a pattern, so that links
in a circle end. Names are compared as they are, never as URLs. Which endings are read is no matter of this file.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cluster.storage.local import disk_info

ANY_DEPTH = "**"
PLAN = "_plan.json"
"""What shows that a folder is an output of this job."""
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_WILD = re.compile(r"[*?\[]")


@dataclass(slots=True)
class Listing:
    """Paths relative to the folder that was searched.

    files     with their info as fsspec gives it; on a disk that of a link's target (`disk_info`)
    hidden    what only its ``.`` or ``_`` keeps out, the highest folder of it
    folders   folders that the last name of the pattern fits: they are not searched
    odd       what has a fitting name and is no file, with the reason
    outputs   folders that hold an output of this job
    """

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    odd: dict[str, str] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)


def is_pattern(name: str) -> bool:
    return _WILD.search(name) is not None


def split_pattern(url: str) -> tuple[str, list[str]]:
    """The folder that a pattern names literally, and the names from the first wildcard on."""
    names = url.split("/")
    first = next((index for index, name in enumerate(names) if is_pattern(name)), len(names))
    return "/".join(names[:first]) or "/", names[first:]


def everything() -> list[str]:
    """The pattern of all files below a folder."""
    return [ANY_DEPTH, "*"]


def on_disk(root: str, pattern: Sequence[str]) -> Listing:
    """What is there now. FileNotFoundError without `root`; PermissionError where a folder may not be searched."""
    search = _Search(root, _whole(pattern))
    search.run()
    return search.listing


def in_store(fs: Any, root: str, pattern: Sequence[str]) -> Listing:
    """The same by one listing of what is below `root`; without `**` no deeper than the pattern goes."""
    names, listing = _whole(pattern), Listing()
    root = str(fs.resolve_path(root).unresolve() if hasattr(fs, "resolve_path") else root).rstrip("/") + "/"
    depth = None if ANY_DEPTH in names else len(names)
    for path, info in fs.find(root.rstrip("/") or root, maxdepth=depth, detail=True).items():
        if not path.startswith(root) or path.endswith("/") or info["type"] != "file":
            continue
        parts = path[len(root) :].split("/")
        if parts[-1] == PLAN and len(parts) > 1:
            listing.outputs.add("/".join(parts[:-1]))
        if _fits(parts, names, spelt=True):
            listing.files["/".join(parts)] = info
        elif _fits(parts, names, spelt=False):
            listing.hidden.add(_hidden_part(parts, names))
    return listing


def _whole(pattern: Sequence[str]) -> list[str]:
    """Without repeated or closing ``**``: `a/**` is all files below `a`."""
    names = [name for index, name in enumerate(pattern) if name != ANY_DEPTH or pattern[index - 1 : index] != [name]]
    return [*names, "*"] if names[-1] == ANY_DEPTH else names


def _unspelt(name: str, wanted: str) -> bool:
    """Whether `name` is hidden and `wanted` does not spell its first character."""
    return name.startswith((".", "_")) and wanted[:1] != name[0]


def _fits(parts: Sequence[str], pattern: Sequence[str], spelt: bool) -> bool:
    """Whether a path fits a pattern; not `spelt`: as if no name were hidden."""
    if not pattern or not parts:
        return not pattern and not parts
    if pattern[0] == ANY_DEPTH:
        deeper = not (spelt and _unspelt(parts[0], ANY_DEPTH)) and _fits(parts[1:], pattern, spelt)
        return _fits(parts, pattern[1:], spelt) or deeper
    if spelt and _unspelt(parts[0], pattern[0]):
        return False
    return _name_fits(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:], spelt)


def _name_fits(name: str, wanted: str) -> bool:
    return name == wanted or fnmatchcase(name, wanted)


def _hidden_part(parts: Sequence[str], pattern: Sequence[str]) -> str:
    """A path up to its first name that is hidden and not spelt in the pattern."""
    for index, name in enumerate(parts, 1):
        if name.startswith((".", "_")) and name not in pattern:
            return "/".join(parts[:index]) + ("/" if index < len(parts) else "")
    return "/".join(parts)


class _Search:
    """A search on a disk: folders that wait, each with the rest of the pattern that holds in it."""

    def __init__(self, root: str, pattern: Sequence[str]) -> None:
        self.listing = Listing()
        self._root, self._pattern = root, pattern
        self._waiting: list[tuple[str, int]] = [("", 0)]
        self._seen: set[tuple[str, int]] = set()

    def run(self) -> None:
        os.stat(self._root)
        while self._waiting:
            folder, index = self._waiting.pop()
            place = os.path.realpath(self._path(folder)), index
            if place not in self._seen:
                self._seen.add(place)
                self._look(folder, index)

    def _look(self, folder: str, index: int) -> None:
        wanted = self._pattern[index]
        if folder and os.path.lexists(self._path(_below(folder, PLAN))):
            self.listing.outputs.add(folder)
        if wanted == ANY_DEPTH:
            self._waiting.append((folder, index + 1))
            for entry in self._entries(folder):
                if os.path.isdir(entry):
                    self._enter(_below(folder, entry.name), entry.name, index, index)
        elif self._is_literal(folder, wanted):
            self._take(_below(folder, wanted), wanted, index)
        else:
            for entry in self._entries(folder):
                if _name_fits(entry.name, wanted):
                    self._take(_below(folder, entry.name), entry.name, index)

    def _is_literal(self, folder: str, wanted: str) -> bool:
        """No wildcard, or brackets that are part of a name that is there."""
        if not is_pattern(wanted):
            return True
        return not set("*?") & set(wanted) and os.path.lexists(self._path(_below(folder, wanted)))

    def _enter(self, path: str, name: str, index: int, following: int) -> None:
        if _unspelt(name, self._pattern[index]):
            self.listing.hidden.add(f"{path}/")
        else:
            self._waiting.append((path, following))

    def _take(self, path: str, name: str, index: int) -> None:
        """A path that fits the pattern up to `index`."""
        last, hidden = index == len(self._pattern) - 1, _unspelt(name, self._pattern[index])
        try:
            found = os.stat(self._path(path))
        except OSError as error:
            if error.errno not in _NOTHING_THERE:
                raise
            if last and not hidden and os.path.islink(self._path(path)):  # else it is gone by now
                self.listing.odd[path] = "links that lead nowhere"
            return
        if stat.S_ISDIR(found.st_mode):
            if not last:
                self._enter(path, name, index, index + 1)
            elif ANY_DEPTH not in self._pattern and not hidden:
                self.listing.folders.add(path)
        elif last and hidden:
            self.listing.hidden.add(path)
        elif last and stat.S_ISREG(found.st_mode):
            self.listing.files[path] = disk_info(self._path(path), found)
        elif last:
            self.listing.odd[path] = "pipes, sockets or devices"

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                yield from entries
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since it was seen

    def _path(self, below: str) -> str:
        return os.path.join(self._root, below) if below else self._root


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
