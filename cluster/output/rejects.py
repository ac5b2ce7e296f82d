"""The rejected rows of an output: a line each in `_rejects/`, and how they are tried again.

That takes shards of their own: the rows of a range that one attempt rejected (`Shard.retries`). Their parts stand
beside the old ones, which never change, and their records count instead of the old rejects (`records.standing`). Once
the plan with these shards is stored, and before a worker begins, the old lines move to `_retried/`; so `_rejects/`
holds what is rejected for all that is known. What moved is still needed: it says which rows the new shards have, and
should the old part be made again, the same rows are rejected again, since their outcomes stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from cluster.input.jsonl import split_lines
from cluster.input.shards import STORED, BadRow, Count, Row, Shard, parsed
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.records import counted, standing
from cluster.storage.storage import Storage

UNFINISHED = "note: the output is not finished: what is missing is done first; start again to retry what is rejected"
NOTHING_REJECTED = "note: no row of the output is rejected: there is nothing to retry"


@dataclass(frozen=True, slots=True)
class Reject:
    """A line of `_rejects/`."""

    __pydantic_config__ = STORED

    source: str
    row: Count
    reason: str
    detail: str
    raw: str | None


def read_rejects(url: str, storage: Storage) -> Iterator[Reject]:
    """The lines of a file of rejects. ValueError where there is another one."""
    for line in split_lines(storage.blocks(url, 0, int(storage.info(url)["size"]))):
        if not isinstance(line, bytes):
            raise ValueError(f"{line.reason}: {line.detail}")
        yield parsed(Reject, line, "a reject")


def plan_retries(plan: Plan, ledger: Ledger) -> Plan:
    """The next generation of a finished output's plan, with its rejected rows in shards of their own.

    The same plan, and a note, where the output is not finished or nothing in it is rejected. DamagedFile where a
    commit record is none.
    """
    if {shard.name for shard in plan.shards} - ledger.committed():
        print(UNFINISHED)
        return plan
    rejecting = [record for record in standing(ledger.records()) if record.rejected]
    if not rejecting:
        print(NOTHING_REJECTED)
        return plan
    numbered = enumerate(rejecting, len(plan.shards))
    shards = [record.shard.again(at, record.token, record.rejected) for at, record in numbered]
    rows = sum(record.rejected for record in rejecting)
    return plan.extended(f"{counted(rows, 'rejected row')} tried again in {counted(len(shards), 'shard')}", (), shards)


class SetAside:
    """What rows of a range are a shard's, where rejected rows have shards of their own. Threads share it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def over(self, shard: Shard, items: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Of the rows of a range those of its shard; what another shard tries again is rejected as it was."""
        if shard.retries is not None:
            wanted = {reject.row for reject in self._read(self._ledger.retried_url(shard.retries))}
            items = (item for item in items if item.number in wanted)
        url = self._elsewhere.get(shard.name)
        known = {reject.row: reject for reject in self._read(url)} if url else {}
        for item in items:
            reject = known.get(item.number)
            yield BadRow(item.number, reject.reason, reject.detail, reject.raw) if reject else item

    @cached_property
    def _elsewhere(self) -> dict[str, str]:
        return self._ledger.retried()

    def _read(self, url: str) -> Iterator[Reject]:
        return read_rejects(url, self._ledger.storage)
