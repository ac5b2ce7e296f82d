"""Labels in storage: one file for each group of chunks, created only if absent, so a killed run does what is missing.

Every worker reads the input and labels the groups that are its own; which these are, and what is in them, follows from
the settings. The leading worker notes how many there must be. The files are inputs for ``--teacher labels``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster.errors import AbortRun
from cluster.storage import Storage
from jobs.training.labels_read import Piece
from jobs.training.labels_records import Labelled, from_bytes, to_bytes
from jobs.training.labels_teachers import Teacher
from jobs.training.place import Place
from jobs.training.progress import Progress

_NAME = re.compile(r"group-(\d{6,})\.jsonl")
_TOTAL = "_total.json"


@dataclass(frozen=True, slots=True)
class LabelStore:
    """The labels of one output, under the folder `url`."""

    url: str
    storage: Storage

    def committed(self) -> set[int]:
        """Numbers of the groups that are there."""
        found = (_NAME.fullmatch(entry.name) for entry in self.storage.entries(self.url))
        return {int(match[1]) for match in found if match}

    def total(self) -> int | None:
        """How many groups there must be; None while nobody knows."""
        try:
            return int(json.loads(self.storage.read(f"{self.url}/{_TOTAL}")))
        except FileNotFoundError:
            return None

    def note_total(self, groups: int) -> None:
        """Say how many groups there must be."""
        self.storage.create(f"{self.url}/{_TOTAL}", str(groups).encode())

    def missing(self) -> int | None:
        """How many groups are not there yet; None while nobody knows."""
        total = self.total()
        return None if total is None else len(set(range(total)) - self.committed())

    def commit(self, number: int, records: Iterable[Labelled]) -> None:
        """Put a group, unless somebody else was first."""
        self.storage.create(self._file(number), to_bytes(records))

    def read(self) -> list[Labelled]:
        """All labels, in the order of the input. AbortRun while some are missing."""
        if (missing := self.missing()) != 0:
            lacking = "it is not known how many" if missing is None else str(missing)
            raise AbortRun(f"{self.url}: groups of labels are missing ({lacking}); start the same command again")
        return [record for number in sorted(self.committed()) for record in from_bytes(self._bytes(number))]

    def _bytes(self, number: int) -> bytes:
        return self.storage.read(self._file(number))

    def _file(self, number: int) -> str:
        return f"{self.url}/group-{number:06d}.jsonl"


def label_groups(
    store: LabelStore,
    found: Iterable[tuple[int, list[Piece]]],
    load: Callable[[], Teacher],
    place: Place,
    progress: Progress,
) -> None:
    """Label this worker's groups that are not there yet.

    `load` is called once there is something to label: where all is done, no teacher is loaded.
    """
    done, total, teacher = store.committed(), store.total() or 0, None
    for number, pieces in found:
        if number not in done and number % place.world == place.rank:
            teacher = teacher or load()
            store.commit(number, teacher(pieces))
            progress.tell(number + 1, total)
