"""`Storage`: the few things that the job asks of a filesystem, the same on a disk and in an object store.

Reading by ranges, fresh listings, whole-file writes and, what everything rests on, creation that exactly one of many
racing writers wins (`create`). On a disk that is a complete temporary file and a hard link; in an object store a
conditional put. Nothing is ever streamed to a final name: a writer that dies would leave half a file under it. Calls
that fail for a transient reason are repeated; what then still fails is a RetryShard or an AbortRun. A missing file is
FileNotFoundError. Directories above a path are made as needed.

Names are names: only ``scheme://`` at the beginning is looked at, the rest is the path or the key as it stands,
whatever signs are in it, and nothing in it is percent-decoded. Names that a store's client would take for something
else are refused by `absolute`. Links on a disk are followed.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fsspec

from cluster.errors import AbortRun, ClusterError, RetryShard, is_fatal, service_code
from cluster.storage.credentials import redact
from cluster.storage.listing import Listing, in_store, on_disk
from cluster.storage.local import create_whole, disk_info, files_in, replace_whole
from lingua.errors import ConfigError
from lingua.explain import meant

T = TypeVar("T")

BLOCK = 4 << 20
LARGE_PUT = 64 << 20
PAUSES = (0.2, 0.8, 2.0)
LOCAL = frozenset({"file", "local"})
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_CHAINED = re.compile(r"[a-z0-9]+::([a-z][a-z0-9+.-]*://|/)")
_VERSIONED = dict.fromkeys(("s3", "s3a"), "?versionId=") | dict.fromkeys(("abfs", "abfss", "az"), "?versionid=")
"""What the client of a store cuts off a name, and the rest with it, to ask for another object than the named one."""
CONDITIONAL = LOCAL | {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Scheme → the extra of this package that installs its filesystem."""
_OPTIONS = "or give --storage-options (LINGUA_STORAGE_OPTIONS)"
_CREDENTIALS = {
    "NoCredentialsError": f"; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, {_OPTIONS}",
    "DefaultCredentialsError": f"; set GOOGLE_APPLICATION_CREDENTIALS, {_OPTIONS}",
}
"""What clients of stores raise where they find no credentials, by name: none is imported for it."""


class Entry(NamedTuple):
    """A file in a folder: its name there and its size in bytes."""

    name: str
    size: int


class Storage:
    """Filesystems by URL. `options` go to fsspec: flat for every remote filesystem, or by protocol (``{"s3": {…}}``).

    `pauses` are the seconds between repetitions of a call that failed for a transient reason.
    """

    def __init__(self, options: Mapping[str, Any] | None = None, pauses: tuple[float, ...] = PAUSES) -> None:
        self.options = dict(options or {})
        self.pauses = pauses

    def resolve(self, url: str) -> tuple[Any, str]:
        """The filesystem of a URL and the path in it. ConfigError when there is no such filesystem."""
        protocol = protocol_of(url)
        own = self.options.get(protocol)
        options = own if isinstance(own, Mapping) else {} if protocol in LOCAL | {"memory"} else self.options
        try:
            if protocol in LOCAL:
                return fsspec.filesystem(protocol, **options), absolute(url)
            _require_usable_name(url, protocol)
            kind = fsspec.get_filesystem_class(protocol)
            named = kind._get_kwargs_from_urls(url)  # a host or an account that stands in the URL
            return fsspec.filesystem(protocol, **{**named, **options}), kind._strip_protocol(url)
        except (ImportError, ValueError, TypeError, OSError, EOFError) as error:
            extra = _EXTRAS.get(protocol)
            hint = f" pip install 'lingua-batch[{extra}]'" if extra else meant(protocol, _EXTRAS)
            complaint = f"{url}: no filesystem for {protocol}://: {self._words(error)}"
            raise ConfigError(f"{complaint};{hint}" if hint else complaint) from None

    def info(self, url: str) -> dict[str, Any]:
        """What the store says now about a file (never from a cache)."""

        def ask(fs: Any, path: str) -> dict[str, Any]:
            if protocol_of(url) in LOCAL:
                return disk_info(path, os.stat(path))
            fs.invalidate_cache()
            return dict(fs.info(path))

        return self._patiently("look at", url, ask)

    def exists(self, url: str) -> bool:
        with suppress(FileNotFoundError):
            self.info(url)
            return True
        return False

    def entries(self, folder: str) -> list[Entry]:
        """The files directly in a folder, by name, listed afresh; none when there is no such folder."""

        def ask(fs: Any, path: str) -> list[Entry]:
            if protocol_of(folder) in LOCAL:
                return list(starmap(Entry, files_in(path)))
            fs.invalidate_cache()
            files = [item for item in fs.ls(path, detail=True) if item["type"] == "file"]
            return sorted(Entry(str(one["name"]).rstrip("/").rpartition("/")[2], int(one["size"])) for one in files)

        with suppress(FileNotFoundError):
            return self._patiently("list", folder, ask)
        return []

    def search(self, folder: str, pattern: Sequence[str]) -> Listing:
        """What a pattern of names stands for below a folder, listed afresh."""

        def ask(fs: Any, path: str) -> Listing:
            if protocol_of(folder) in LOCAL:
                return on_disk(path, pattern)
            fs.invalidate_cache()
            return in_store(fs, path, pattern)

        return self._patiently("list", folder, ask)

    def read(self, url: str) -> bytes:
        return self._patiently("read", url, lambda fs, path: bytes(fs.cat_file(path)))

    def read_range(self, url: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a file; fewer when the file ends before."""
        if start >= end:
            return b""

        def ask(fs: Any, path: str) -> bytes:
            try:
                return bytes(fs.cat_file(path, start=start, end=end))
            except OSError as error:
                if service_code(error) in {"InvalidRange", "416"}:  # the file ends before `start`
                    return b""
                raise

        return self._patiently("read", url, ask)

    def read_exactly(self, url: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a file that has them; RetryShard when fewer come: the answer was cut, or the file."""
        if len(data := self.read_range(url, start, end)) != max(0, end - start):
            raise RetryShard(f"cannot read {url}: {len(data)} bytes came from byte {start} on, not {end - start}")
        return data

    def blocks(self, url: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [start, end), all of them, in blocks of at most `BLOCK`; without `end` up to that of the file."""
        end = int(self.info(url)["size"]) if end is None else end
        for position in range(start, end, BLOCK):
            yield self.read_exactly(url, position, min(position + BLOCK, end))

    def lines(self, url: str) -> Iterator[bytes]:
        """The lines of a file, however long, with their ends."""
        with io.BufferedReader(self.open(url, int(self.info(url)["size"])), BLOCK) as file:
            yield from file

    def open(self, url: str, size: int) -> RangeReader:
        """An unbuffered, seekable reader over the first `size` bytes, which must be there."""
        return RangeReader(lambda start, end: self.read_exactly(url, start, end), size)

    def write(self, url: str, data: bytes) -> None:
        """Put a whole file, over an older one if there is one."""

        def put(fs: Any, path: str) -> None:
            if protocol_of(url) in LOCAL:
                replace_whole(Path(path), data)
            else:
                fs.pipe_file(path, data)

        self._patiently("write", url, put)

    def create(self, url: str, data: bytes | Path) -> bool:
        """Put a whole file if there is none under its name; True when the file there is now ours.

        `data` is the content or a local file that holds it. A put whose first answer was lost finds the name taken by
        itself: so a taken name is compared, and equal content counts as ours.
        """

        def put(fs: Any, path: str) -> None:
            if protocol_of(url) in LOCAL:
                create_whole(Path(path), data)
            elif isinstance(data, Path) and data.stat().st_size > LARGE_PUT:
                fs.put_file(str(data), path, mode="create")  # in parts; the condition is checked when they are joined
            else:
                fs.pipe_file(path, data.read_bytes() if isinstance(data, Path) else data, mode="create")

        try:
            self._patiently("create", url, put)
        except FileExistsError:
            if protocol_of(url) in LOCAL and not os.path.exists(absolute(url)):
                raise AbortRun(f"cannot create {url}: a link of that name leads nowhere; remove or mend it") from None
            return self._same(url, data)
        return True

    def delete(self, url: str) -> None:
        """Remove a file; none there is no error."""
        with suppress(FileNotFoundError):
            self._patiently("delete", url, lambda fs, path: fs.rm_file(path))

    def _same(self, url: str, data: bytes | Path) -> bool:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        if int(self.info(url)["size"]) != size:
            return False
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as mine:
            return all(block == mine.read(len(block)) for block in self.blocks(url, 0, size))

    def _patiently(self, verb: str, url: str, call: Callable[[Any, str], T]) -> T:
        fs, path = self.resolve(url)
        for pause in self.pauses:
            with suppress(RetryShard):
                return self._once(verb, url, lambda: call(fs, path))
            time.sleep(pause)
        return self._once(verb, url, lambda: call(fs, path))

    def _once(self, verb: str, url: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except FileNotFoundError:
            if verb in ("write", "create"):
                place = "directory, and none can be made there" if protocol_of(url) in LOCAL else "bucket or container"
                raise AbortRun(f"cannot {verb} {url}: there is no such {place}; make it first") from None
            raise
        except NotADirectoryError:
            why = "there is a file where a directory is needed; check the path"
            raise AbortRun(f"cannot {verb} {url}: {why}") from None
        except (FileExistsError, ClusterError, ConfigError):
            raise
        except Exception as error:  # stores raise what they like; each kind is mapped on its consequence
            if service_code(error) == "PreconditionFailed":  # of a put that must not overwrite
                raise FileExistsError(url) from None
            kind = AbortRun if is_fatal(error) else RetryShard
            remedy = _CREDENTIALS.get(type(error).__name__, "")
            raise kind(f"cannot {verb} {url}: {self._words(error)}{remedy}") from None

    def _words(self, error: BaseException) -> str:
        return redact(f"{type(error).__name__}: {error}", self.options)


def protocol_of(url: str) -> str:
    """The scheme of a URL; ``file`` for a plain path."""
    match = _SCHEME.match(url)
    return match[1] if match else "file"


def below(url: str, *names: str) -> str:
    """The URL of a name in a folder; of several, the later in the folders of the earlier."""
    return "/".join((url, *filter(None, names)))


def absolute(url: str) -> str:
    """A plain path made absolute, so that it means the same on resumption from another folder; URLs stay.

    ``~`` is the home directory, unless something of that name is here; ``file://`` needs a whole path, which is not
    percent-decoded. ConfigError for a name that cannot be read or written as it stands, and for a relative path in a
    job that was submitted to a cluster.
    """
    protocol = protocol_of(url)
    _require_usable_name(url, protocol)
    if protocol not in LOCAL:
        if not url.partition("://")[2].strip("/"):
            raise ConfigError(f"{url}: names no bucket or container; write {protocol}://BUCKET/PATH")
        return url.rstrip("/")
    path = url
    if _SCHEME.match(url):
        host, slash, rest = url.partition("://")[2].partition("/")
        if host not in ("", "localhost") or not slash:
            raise ConfigError(f"{url}: write file:///PATH with three slashes, or the plain path")
        path = f"/{rest}"
    if path.startswith("~") and not os.path.lexists(path.partition("/")[0]):
        path = os.path.expanduser(path)
    if submitted() and not path.startswith("/"):
        raise ConfigError(
            f"{url}: is a relative path, and a submitted job runs in a copy of the working directory, which is deleted "
            "with the job; give an absolute path that all nodes share, or a URL"
        )
    path = _without_dots(f"{os.getcwd()}/{path}" if not path.startswith("/") else path)
    if "/runtime_resources/working_dir_files/" in f"{path}/":
        raise ConfigError(
            f"{url}: lies in the copy of the working directory that Ray made for this job and deletes with it; "
            "give an absolute path that all nodes share, or a URL"
        )
    return path


def _require_usable_name(url: str, protocol: str) -> None:
    cut = _VERSIONED.get(protocol, "\0")
    if "\0" in url or cut in url:
        raise ConfigError(f"{url!r}: no file can be asked for by this name, because of the {cut!r} in it; rename it")
    if _CHAINED.match(url):
        raise ConfigError(f"{url}: chained URLs (with ::) are not read; give the plain URL, or ./NAME for a local file")
    try:
        url.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{url!r}: the name is not UTF-8, and plans and rejects must spell it; rename it") from None


def _without_dots(path: str) -> str:
    """Without ``.``, ``..`` and doubled slashes; what is above a link is what is above its target."""
    done = ""
    for name in path.split("/"):
        if name == "..":
            done = os.path.dirname(os.path.realpath(done) if os.path.islink(done) else done).rstrip("/")
        elif name not in ("", "."):
            done = f"{done}/{name}"
    return done or "/"


def require_conditional(url: str) -> None:
    """ConfigError unless outputs can be committed there: the store must create a file only if it is absent."""
    if protocol_of(url) not in CONDITIONAL:
        raise ConfigError(
            f"output = {url}: {protocol_of(url)}:// cannot create a file only if it is absent, which commits rest on; "
            "write to a local path, s3://, gs:// or abfs://"
        )


def submitted() -> bool:
    """Whether `ray job submit` started this process: Ray then runs it in a copy of the working directory."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


class RangeReader(io.RawIOBase):
    """The first `size` bytes that `read_range(start, end)` gives, as a file object."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._read_range, self._size = read_range, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read_range(self._position, min(self._position + len(view), self._size))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
