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
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cluster.storage.local import disk_info

ANY_DEPTH = "**"
EVERYTHING = (ANY_DEPTH, "*")
"""The pattern of all files below a folder."""
PLAN = "_plan.json"
"""What shows that a folder is an output of this job."""
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_WILD = re.compile(r"[*?\[]")


@dataclass(slots=True)
class Listing:
    """Paths relative to the folder that was searched."""

    # with their info as fsspec gives it; on a disk that of a link's target (`disk_info`)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # what only its ``.`` or ``_`` keeps out, the highest folder of it
    # folders that the last name of the pattern fits: they are not searched
    folders: set[str] = field(default_factory=set)
    odd: dict[str, str] = field(default_factory=dict)  # what has a fitting name and is no file, with the reason
    outputs: set[str] = field(default_factory=set)  # folders that hold an output of this job


def is_pattern(name: str) -> bool:
    return _WILD.search(name) is not None


def on_disk(root: str, pattern: Sequence[str]) -> Listing:
    """What is there now. FileNotFoundError without `root`; PermissionError where a folder may not be searched."""
    os.stat(root)
    names, listing = _whole(pattern), Listing()
    waiting, seen = [("", _at({0}, names))], set()
    while waiting:
        folder, places = waiting.pop()
        if (key := (os.path.realpath(os.path.join(root, folder)), places)) in seen:
            continue
        seen.add(key)
        there = _names_in(os.path.join(root, folder), [*(names[place] for place in places if place < len(names)), PLAN])
        for name in there:
            path = f"{folder}/{name}" if folder else name
            if name == PLAN and folder:
                listing.outputs.add(folder)
            spelt, unspelt = (_after(places, name, names, spelt, there) for spelt in (True, False))
            if unspelt and (further := _found(listing, path, os.path.join(root, path), (spelt, unspelt), len(names))):
                waiting.append((path, further))
    return listing


def _names_in(folder: str, wanted: Sequence[str]) -> dict[str, None]:
    """What is there, in the disk's order: of links to the same folder always the same one is followed.

    Where no wildcard is `wanted`, the folder is not listed, which can be long or forbidden.
    """
    if not any(map(is_pattern, wanted)):
        return {name: None for name in wanted if os.path.lexists(os.path.join(folder, name))}
    try:
        with os.scandir(folder) as entries:
            return {entry.name: None for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}  # gone since it was seen


def _found(
    listing: Listing, path: str, full: str, places: tuple[frozenset[int], frozenset[int]], end: int
) -> frozenset[int]:
    """Take down what is there under a name that leads to these `places`; those to go on from in a folder."""
    spelt, unspelt = places
    try:
        found = os.stat(full)
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        if end in spelt and os.path.islink(full):  # else it is gone by now
            listing.odd[path] = "links that lead nowhere"
        return frozenset()
    if stat.S_ISDIR(found.st_mode):
        if spelt == {end}:
            listing.folders.add(path)
        elif not spelt and unspelt - {end}:
            listing.hidden.add(f"{path}/")
        return spelt - {end}
    if end in spelt and stat.S_ISREG(found.st_mode):
        listing.files[path] = disk_info(full, found)
    elif end in spelt:
        listing.odd[path] = "pipes, sockets or devices"
    elif end in unspelt:
        listing.hidden.add(path)
    return frozenset()


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
        spelt = unspelt = _at({0}, names)
        shut = 0  # names up to the one that keeps it out
        for count, name in enumerate(parts, 1):
            spelt, unspelt = _after(spelt, name, names), _after(unspelt, name, names, spelt=False)
            shut = shut or (0 if spelt else count)
        if len(names) in spelt:
            listing.files["/".join(parts)] = info
        elif len(names) in unspelt:
            listing.hidden.add("/".join(parts[: shut or None]) + "/" * (0 < shut < len(parts)))
    return listing


def _whole(pattern: Sequence[str]) -> list[str]:
    """Without repeated or closing ``**``: `a/**` is all files below `a`."""
    names = [name for name, before in zip(pattern, [None, *pattern], strict=False) if not name == before == ANY_DEPTH]
    return [*names, "*"] if names[-1] == ANY_DEPTH else names


def _at(places: Collection[int], pattern: list[str]) -> frozenset[int]:
    """Places in a pattern, with those behind a ``**``, which may stand for no folder."""
    return frozenset([*places, *(place + 1 for place in places if pattern[place : place + 1] == [ANY_DEPTH])])


def _after(
    places: Collection[int], name: str, pattern: list[str], spelt: bool = True, there: Collection[str] = ()
) -> frozenset[int]:
    """The places in a pattern behind one more name of a path; its length is its end. None of them: it does not fit.

    Not `spelt`: as if no name were hidden. Brackets in a name that is `there` are no pattern.
    """
    found = set()
    for wanted, place in ((pattern[place], place) for place in places if place < len(pattern)):
        if spelt and name.startswith((".", "_")) and wanted[:1] != name[0]:
            continue
        if wanted == ANY_DEPTH:
            found.add(place)
        elif name == wanted or (fnmatchcase(name, wanted) and (set("*?") & set(wanted) or wanted not in there)):
            found.add(place + 1)
    return _at(found, pattern)
