"""`RunFolder`: the output of a job that one run at a time works on and that a killed run's successor continues.

It knows what the output was begun with (`_plan.json`), who works on it (the lease), files that are there whole or not
at all, and directories, such as a model, that count only once their last file is there. All jobs that commit whole
files use it; what the files mean is the job's business: `Ledger` is the run folder of a compression.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.errors import AbortRun, PlanConflict
from cluster.output.lease import Lease, LeaseWait, heartbeat
from cluster.output.plan import REMEDY
from cluster.stopping import StopRequest
from cluster.storage.listing import EVERYTHING, PLAN
from cluster.storage.local import TEMPORARY
from cluster.storage.storage import LOCAL, Storage, absolute, below, protocol_of, require_conditional

SHOWN = 120
"""Characters of a setting's value that a refusal repeats."""


class RunFolder:
    """The folder `url` of a job called `job`. Names are relative to it, with `/` between folders.

    ConfigError where a file cannot be created only if it is absent. Any number of processes may use it at once.
    """

    def __init__(self, url: str, job: str, storage_options: Mapping[str, Any] | None = None) -> None:
        require_conditional(url)
        self.url, self.job = absolute(url), job
        self.storage = Storage(storage_options)

    # ---- one run at a time

    def begin(self, plan: Mapping[str, Any], remedy: str = REMEDY) -> None:
        """Begin an empty folder with this plan, or find that it was begun with an equal one.

        Raises PlanConflict, naming each difference, when it was begun with another one or holds something else.
        """
        wanted = json.dumps(dict(plan), indent=1, sort_keys=True).encode()
        if not self.exists(PLAN):
            self.require_unused()
            if self.create(PLAN, wanted):
                return
        try:
            before, now = dict(json.loads(self.read(PLAN))), json.loads(wanted)
        except (ValueError, TypeError) as error:
            raise PlanConflict(f"{below(self.url, PLAN)} is damaged ({error}); use another output") from None
        unlike = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if found := [f"{key} was {_shown(before.get(key))}, now {_shown(now.get(key))}" for key in unlike]:
            raise PlanConflict(f"{self.url} was begun otherwise: {'; '.join(found)}; {remedy}")

    def require_unused(self) -> None:
        """PlanConflict when something lies there, although no plan does."""
        if foreign := [name for name in sorted(self._files("")) if name[0] not in "._"]:
            why = "no output of this job, or its plan is lost; use another"
            raise PlanConflict(f"{self.url} holds {foreign[0]} and no {PLAN}: {why}")

    @contextmanager
    def held(self, seconds: float, stop: StopRequest | None = None) -> Iterator[Lease]:
        """Hold the lease while inside. LeaseError when a live run holds it; that of a dead one is waited for.

        A lease that is lost asks `stop` to stop; where nobody gave one, AbortRun is raised at the end.
        """
        asked = stop or StopRequest()
        wait = LeaseWait(2 * seconds, lambda: asked.reason is None)
        lease = Lease.acquire(self.storage, self.url, self.job, seconds, wait)
        try:
            with heartbeat(lease.renew, seconds, asked):
                yield lease
        finally:
            lease.release()
        if stop is None and asked.reason:
            raise AbortRun(asked.reason)

    def remove_temporary(self, *folders: str) -> None:
        """Remove what dead attempts left half written directly in these folders. Only for the holder of the lease."""
        for folder in folders:
            for name in self.names(folder):
                if name.startswith(TEMPORARY):
                    self.delete(f"{folder}/{name}".lstrip("/"))

    # ---- files

    def names(self, folder: str = "") -> set[str]:
        """Names of the files directly in a folder, listed afresh."""
        return {entry.name for entry in self.storage.entries(below(self.url, folder))}

    def exists(self, name: str) -> bool:
        return self.storage.exists(below(self.url, name))

    def read(self, name: str) -> bytes:
        """A whole file. FileNotFoundError when it is not there."""
        return self.storage.read(below(self.url, name))

    def create(self, name: str, data: bytes | Path) -> bool:
        """Put a file, given its content or a local one, unless there is one; whether the file there holds this."""
        return self.storage.create(below(self.url, name), data)

    def write(self, name: str, data: bytes) -> None:
        """Put a file, over an older one if there is one."""
        self.storage.write(below(self.url, name), data)

    def delete(self, name: str) -> None:
        """Remove a file; none there is no error."""
        self.storage.delete(below(self.url, name))

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value in a file; computed and put there if nobody has done so."""
        if not self.exists(name):
            self.create(name, json.dumps(compute()).encode())
        return json.loads(self.read(name))

    # ---- directories

    def put(self, name: str, local: Path, last: str) -> None:
        """Put a local directory. Its file `last` comes last, and goes first where an older one is replaced."""
        files = {path.relative_to(local).as_posix(): path for path in local.rglob("*") if path.is_file()}
        ordered = sorted(files, key=lambda file: (file == last, file))
        for file in reversed(ordered):
            self.storage.delete(below(self.url, name, file))
        for file in ordered:
            self.storage.create(below(self.url, name, file), files[file])

    def get(self, name: str, local: Path) -> None:
        for file, size in self._files(name).items():
            target = local / file
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                copy.writelines(self.storage.blocks(below(self.url, name, file), 0, size))

    def directories(self, parent: str, last: str) -> list[str]:
        """Names of the directories in `parent` whose file `last` is there: those that were put whole."""
        return [file.removesuffix(f"/{last}") for file in self._files(parent) if file.endswith(f"/{last}")]

    def drop(self, name: str, last: str) -> None:
        """Remove a directory, `last` first, so that what a kill leaves of it does not count."""
        for file in sorted(self._files(name), key=lambda file: file.rpartition("/")[2] != last):
            self.storage.delete(below(self.url, name, file))
        if protocol_of(self.url) in LOCAL:  # elsewhere there are no empty folders
            shutil.rmtree(below(self.url, name), ignore_errors=True)

    def _files(self, name: str) -> dict[str, int]:
        """All files below a directory, relative to it, and their sizes in bytes."""
        with suppress(FileNotFoundError):
            found = self.storage.search(below(self.url, name), EVERYTHING).files
            return {file: int(info["size"]) for file, info in found.items()}
        return {}


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:SHOWN]
