"""How far a run is, from its leading worker to the one who waits: a small file in the output, and lines made of it.

Workers of a cluster print where nobody looks; a file works in every storage and tells another terminal too.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress

from cluster.errors import ClusterError
from cluster.storage import Storage
from jobs.training.place import Place

NAME = "_progress.json"
SECONDS = 5.0


class Progress:
    """Told by all workers, written by the leading one every few seconds."""

    def __init__(self, phase: str, storage: Storage, output: str, place: Place) -> None:
        self._phase, self._storage, self._url, self._leads = phase, storage, f"{output}/{NAME}", place.leads
        self._last = -SECONDS

    def tell(self, done: int, total: int, **values: float) -> None:
        """`done` of `total`, and figures that go with it."""
        now = time.monotonic()
        if not self._leads or (now - self._last < SECONDS and done < total):
            return
        self._last = now
        with suppress(ClusterError):  # a line that is not shown harms nobody
            self._storage.write(self._url, json.dumps({"phase": self._phase, "of": [done, total], **values}).encode())


class Watch:
    """Prints what `Progress` tells, while entered."""

    def __init__(self, storage: Storage, output: str) -> None:
        self._storage, self._url, self._shown = storage, f"{output}/{NAME}", b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="progress", daemon=True)

    def __enter__(self) -> Watch:
        self._storage.delete(self._url)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(timeout=10)
        with suppress(ClusterError):
            self._storage.delete(self._url)

    def _look(self) -> None:
        while not self._ended.wait(SECONDS):
            with suppress(ClusterError, FileNotFoundError, ValueError):
                data = self._storage.read(self._url)
                if data != self._shown:
                    print(_line(**json.loads(data)), flush=True)
                self._shown = data


def _line(phase: str, of: tuple[int, int], **values: float) -> str:
    figures = "".join(f" · {name} {value:.3f}" for name, value in values.items())
    return f"{phase}: {of[0]} of {of[1]}{figures}"
