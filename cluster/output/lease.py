"""`Lease`: who works on an output, so that two drivers do not compute the same shards.

A lease is the file `_lease-<generation>.json`, and the highest generation holds. Taking over a lease that has run out
means creating the next generation if it is absent, which only one can do; a holder that wakes up later sees a newer
generation, or none, or another owner in its own, and gives up. Creation is all that is asked of the store. Times are
wall clock times: clocks that differ by more than the lease's seconds cost computing time, never rows, since parts are
created only once whoever makes them.

A living driver renews its lease every quarter of its seconds (`heartbeat`). So a start that finds the output in use
watches the lease (`LeaseWait`): if it is renewed or taken by another, a live driver holds it and the start is refused;
if it is not renewed until it has run out, it is taken over. A retry that comes at once after a driver was killed goes
on by itself.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from cluster.errors import AbortRun, ClusterError, LeaseError, RetryShard
from cluster.input.shards import STORED, parsed
from cluster.stopping import StopRequest
from cluster.storage.storage import Storage

_NAME = re.compile(r"_lease-(\d{6,})\.json")
DAY = 86400.0
"""Seconds by which clocks may differ; a lease from further in the future is damaged."""
LONGEST = 1_000_000.0
"""Seconds that a lease may last: nobody works on an output unseen for longer."""
Moment = Annotated[float, Field(ge=0, lt=200 * 365 * DAY)]
SECONDS_BETWEEN_LOOKS = 1.0
MISSED_RENEWALS = 2


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease; times in seconds since 1970. `token` is unique to one acquisition."""

    __pydantic_config__ = STORED

    owner: str
    host: str
    pid: int
    token: str
    since: Moment
    renewed: Moment
    seconds: Annotated[float, Field(le=LONGEST)]

    @property
    def expires(self) -> float:
        """When the lease runs out, unless renewed."""
        return self.renewed + self.seconds

    @property
    def who(self) -> str:
        return f"{self.owner} (process {self.pid} on {self.host})"

    def to_bytes(self) -> bytes:
        """As JSON, with the moments in words for people."""
        words = {"since_utc": _utc(self.since), "renewed_utc": _utc(self.renewed)}
        return json.dumps({**asdict(self), **words}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Holder:
        """The inverse of `to_bytes`. LeaseError when it is no lease, or of a time that no clock shows."""
        try:
            if (holder := parsed(cls, data, "a lease")).renewed > time.time() + DAY:
                raise ValueError(f"renewed at {_utc(holder.renewed)}, which is yet to come")
        except ValueError as error:
            raise LeaseError(f"{where} is damaged ({error}); if nobody works on the output, delete it") from None
        return holder


@dataclass(frozen=True, slots=True)
class LeaseWait:
    """How long a lease is waited for, in seconds, while it is `wanted` at all."""

    seconds: float = 0.0
    wanted: Callable[[], bool] = lambda: True
    say: Callable[[str], None] = lambda message: print(message, file=sys.stderr, flush=True)
    sleep: Callable[[float], None] = time.sleep


class Lease:
    """A held lease. Made by `acquire`; `renew` well before `seconds` are over, `release` at the end."""

    def __init__(self, storage: Storage, folder: str, generation: int, holder: Holder) -> None:
        self._storage, self._folder = storage, folder
        self.generation, self.holder = generation, holder

    @classmethod
    def acquire(cls, storage: Storage, folder: str, owner: str, seconds: float, wait: LeaseWait | None = None) -> Lease:
        """Take the lease. LeaseError, telling who holds it and since when, if that driver lives, or after the wait."""
        wait = wait or LeaseWait()
        deadline, watched = time.time() + wait.seconds, None
        while True:
            generations = [int(match[1]) for one in storage.entries(folder) if (match := _NAME.fullmatch(one.name))]
            latest = max(generations, default=0)
            before = _read(storage, folder, latest) if latest else None
            if before is None or time.time() >= before.expires:
                break
            renewed = watched is not None and (watched.token, watched.renewed) != (before.token, before.renewed)
            if before.expires > deadline or not wait.wanted() or renewed:
                raise LeaseError(
                    f"{folder}: in use by {before.who} since {_utc(before.since)}; wait for its end, or if it died, "
                    f"until {_utc(before.expires)}, when its lease runs out; if nobody works on it, "
                    f"{_url(folder, latest)} can be deleted"
                )
            if watched is None:
                watched = before
                wait.say(f"in use by {watched.who}; waiting: if it died, its lease runs out at {_utc(watched.expires)}")
            wait.sleep(max(0.01, min(SECONDS_BETWEEN_LOOKS, watched.expires - time.time())))
        now = time.time()
        holder = Holder(owner, socket.gethostname(), os.getpid(), uuid.uuid4().hex, now, now, seconds)
        lease = cls(storage, folder, latest + 1, holder)
        if not storage.create(_url(folder, lease.generation), holder.to_bytes()):
            raise LeaseError(f"{folder}: another run took the lease at this moment; try again when it has ended")
        with suppress(RetryShard):  # older ones are of no consequence
            for old in generations:
                storage.delete(_url(folder, old))
        return lease

    def renew(self) -> None:
        """Hold it for `seconds` more. LeaseError when it was taken over."""
        heir = _read(self._storage, self._folder, self.generation + 1)
        current = heir or _read(self._storage, self._folder, self.generation)
        if current is None or current.token != self.holder.token:
            by = f" by {current.who}" if current is not None else ""
            raise LeaseError(f"{self._folder}: the lease ran out and was taken over{by}; this run stops")
        self.holder = replace(self.holder, renewed=time.time())
        self._storage.write(_url(self._folder, self.generation), self.holder.to_bytes())

    def release(self) -> None:
        """Give it back, unless another took it over. If the storage fails, it runs out by itself."""
        with suppress(RetryShard):
            current = _read(self._storage, self._folder, self.generation)
            if current is not None and current.token == self.holder.token:
                self._storage.delete(_url(self._folder, self.generation))


@contextmanager
def heartbeat(renew: Callable[[], None], seconds: float, stop: StopRequest) -> Iterator[None]:
    """Call `renew` four times in a lease of `seconds`, in a thread, while inside; a lost lease asks `stop` to stop.

    A renewal that fails for a passing reason is tried again until the lease would have run out.
    """
    ended = threading.Event()

    def beat() -> None:
        missed = 0
        while not ended.wait(seconds / 4):
            try:
                renew()
                missed = 0
            except AbortRun as error:
                stop.ask(f"the lease was lost: {error}")
            except (ClusterError, OSError):
                missed += 1
            if missed > MISSED_RENEWALS:
                stop.ask("the lease could not be renewed")

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _read(storage: Storage, folder: str, generation: int) -> Holder | None:
    url = _url(folder, generation)
    with suppress(FileNotFoundError):
        return Holder.from_bytes(storage.read(url), url)
    return None


def _url(folder: str, generation: int) -> str:
    return f"{folder}/_lease-{generation:06d}.json"


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
