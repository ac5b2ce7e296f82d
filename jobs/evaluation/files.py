"""`EvalLedger`: the files of an evaluation, so that it can be continued, read and drawn.

_evaluation.json        what decides its content: settings, models, rows; another configuration refuses
_rows/<set>.jsonl       the chosen rows in the unified form: what the workers read
measured/<unit>.jsonl   a finished unit, there whole or not at all (`measured.py` has its lines)
summary.json, summary.md, report.html    the results, written at the end
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from cluster.errors import PlanConflict
from cluster.lease import Lease
from cluster.local import TEMPORARY
from cluster.plan import REMEDY, Identity
from cluster.records import Record
from cluster.storage import Storage, absolute
from jobs.evaluation.grid import Unit
from jobs.evaluation.measured import Measured, read_lines, write_lines
from jobs.evaluation.rows import EvalRow
from jobs.evaluation.sources import parse_row, to_line

AT_ONCE = 16
ENDING = ".jsonl"


class EvalLedger:
    """The ledger of one evaluation; what the driver needs of a ledger (`cluster.protocols.Commits`) and more."""

    def __init__(self, output: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.output = absolute(output)
        self.storage = Storage(storage_options)

    # ---- the plan

    def begin(self, identity: Identity, sets: Mapping[str, Sequence[EvalRow]]) -> None:
        """Store what a new output is of, or find that it was begun with the same. PlanConflict otherwise."""
        stored = self._identity()
        if stored is None:
            if foreign := [entry.name for entry in self.storage.entries(self.output) if entry.name[0] not in "._"]:
                raise PlanConflict(f"{self.output} holds {foreign[0]} and no _evaluation.json; choose another output")
            for name, rows in sets.items():
                self.storage.write(self._rows_url(name), rows_file(rows))
            content = {"settings": identity.settings, "model": identity.model, "model_digest": identity.model_digest}
            if self.storage.create(self._url("_evaluation.json"), json.dumps(content, indent=1).encode()):
                return
            stored = self._identity() or identity
        if found := list(stored.differences(identity)):
            raise PlanConflict(f"{self.output} was begun otherwise: {'; '.join(found[:5])[:1000]}; {REMEDY}")

    def _identity(self) -> Identity | None:
        url = self._url("_evaluation.json")
        try:
            content = json.loads(self.storage.read(url))
            return Identity(content["settings"], content["model"], content["model_digest"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise PlanConflict(f"{url} is damaged ({type(error).__name__}: {error}); use another output") from None

    def rows(self, name: str) -> list[EvalRow]:
        """The chosen rows of a set."""
        url = self._rows_url(name)
        return [parse_row(line, url) for line in self.storage.read(url).split(b"\n") if line]

    # ---- commits

    def committed(self) -> Collection[str]:
        """Names of the units whose files are there."""
        names = (entry.name for entry in self.storage.entries(self._url("measured")))
        return {name.removesuffix(ENDING) for name in names if name.endswith(ENDING) and not name.startswith(TEMPORARY)}

    def is_committed(self, shard: str) -> bool:
        """Whether the file of this unit is there."""
        return self.storage.exists(self._measured_url(shard))

    def records(self) -> Sequence[Record]:
        """Units have no records: what they hold is their own count."""
        return ()

    def commit(self, unit: Unit, measured: Iterable[Measured]) -> Literal["committed", "already"]:
        """Publish what a unit measured, all or nothing. ``already``: another attempt's file was there before."""
        created = self.storage.create(self._measured_url(unit.name), write_lines(measured))
        return "committed" if created else "already"

    def read(self, name: str) -> list[Measured]:
        """What the unit of this name measured."""
        return read_lines(self.storage.read(self._measured_url(name)))

    def measured(self, names: Iterable[str]) -> Iterator[Measured]:
        """What these units measured, in their order."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for part in threads.map(self.read, names):
                yield from part

    # ---- the rest

    def acquire_lease(self, seconds: float) -> Lease:
        """Become the one driver of this output. LeaseError tells who is."""
        return Lease.acquire(self.storage, self.output, "jobs.evaluate", seconds)

    def clean(self) -> None:
        """Remove what dead attempts left. Only for the holder of the lease."""
        for folder in (self.output, self._url("measured"), self._url("_rows")):
            for entry in self.storage.entries(folder):
                if entry.name.startswith(TEMPORARY):
                    self.storage.delete(f"{folder}/{entry.name}")

    def write(self, name: str, text: str) -> str:
        """Put a result file; where it is."""
        self.storage.write(self._url(name), text.encode())
        return self._url(name)

    def _rows_url(self, name: str) -> str:
        return self._url("_rows", f"{name}{ENDING}")

    def _measured_url(self, name: str) -> str:
        return self._url("measured", f"{name}{ENDING}")

    def _url(self, *names: str) -> str:
        return "/".join((self.output, *names))


def rows_file(rows: Iterable[EvalRow]) -> bytes:
    """Rows as a file."""
    return b"".join(map(to_line, rows))


def rows_digest(rows: Iterable[EvalRow]) -> str:
    """Digest of rows."""
    return hashlib.sha256(rows_file(rows)).hexdigest()[:16]
