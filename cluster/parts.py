"""`PartWriter`: the rows of one shard with their outcomes → a finished part and its rejects, on the local disk.

Rows come in their order; an accepted one gets the result columns behind its own, a rejected one a line with `source`,
`row`, `reason`, `detail` and `raw`. Nothing but a buffer of rows is held in memory, whatever the size of the shard.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cluster.columns import RESULTS
from cluster.encode import JsonlEncoder, ParquetEncoder
from cluster.errors import RowError
from cluster.forms import TOO_DEEP, Form, Plain
from cluster.plan import Plan
from cluster.rows import BadRow, Row, encodable
from cluster.schema import unplanned_name
from cluster.scratch import Scratch, filling
from cluster.shards import Shard
from cluster.sketch import Sketch, Sketcher
from cluster.validated import STORED, Count
from lingua.prompt import CompressedPrompt, Outcome, Rejected


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a shard's rows: `rows` = compressed + passthrough + kept + over_budget + relaxed + rejected.

    `reused` rows, with `reused_tokens` of `origin_tokens`, came from an earlier output instead of from the model.
    `unplanned` rows that were not rejected hold values that no planned column could take.
    `fidelity` is added up over all rows that were not rejected, `predicted` over the `sampled` ones.
    """

    __pydantic_config__ = STORED

    rows: Count = 0
    compressed: Count = 0
    passthrough: Count = 0
    over_budget: Count = 0
    rejected: Count = 0
    rejects: Mapping[str, Count] = field(default_factory=dict)
    origin_tokens: Count = 0
    compressed_tokens: Count = 0
    reused: Count = 0
    reused_tokens: Count = 0
    relaxed: Count = 0
    fidelity: float = 0.0
    sampled: Count = 0
    predicted: float = 0.0
    kept: Count = 0
    unplanned: Count = 0

    @property
    def untouched(self) -> bool:
        """Whether no row needed the model: all of them came from an earlier output."""
        return 0 < self.rows == self.reused


@dataclass(frozen=True, slots=True)
class Reject:
    """A line of `_rejects/`."""

    __pydantic_config__ = STORED

    source: str
    row: Count
    reason: str
    detail: str
    raw: str | None


@dataclass(frozen=True, slots=True)
class Blob:
    """A finished local file: size in bytes and SHA-256."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Blob:
        """Measure a file."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return cls(path, path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part; `rejects` is None when no row was rejected, `sketch` when none was asked for.

    The files go when their writer is closed.
    """

    data: Blob
    rejects: Blob | None
    counts: Counts
    sketch: Sketch | None = None

    @property
    def token(self) -> str:
        """Short digest of all its bytes: tells apart what two attempts at one shard wrote."""
        both = self.data.sha256 + (self.rejects.sha256 if self.rejects else "")
        return hashlib.sha256(both.encode()).hexdigest()[:12]


class PartWriter:
    """Writes one shard's part and rejects into temporary files. A context manager; `finish` before it is left.

    form   of the plan's rows, for the sketch's samples; needed where they are structured values
    """

    def __init__(self, plan: Plan, shard: Shard, sketcher: Sketcher | None = None, form: Form | None = None) -> None:
        self._plan, self._shard, self._sketcher = plan, shard, sketcher
        self._form = form or Plain(plan.columns)
        with filling(), ExitStack() as opened:  # what is open already is closed when the next cannot be opened
            scratch = Scratch()
            opened.callback(scratch.close)
            self._part, self._rejects = scratch.path / "part", scratch.path / "rejects"
            self._encoder = self._make_encoder()
            opened.callback(self._encoder.close)
            self._reject_file = self._rejects.open("w", encoding="ascii", newline="\n")
            opened.callback(self._reject_file.close)
            self._opened = opened.pop_all()
        self._results = frozenset(map(plan.columns.result_name, RESULTS.names))
        self._rest = unplanned_name(plan.columns.schema)
        self._unplanned = 0
        self._statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._tokens = [0, 0]
        self._reused = [0, 0]
        self._fidelity = 0.0
        self._predicted: list[float] = []

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._opened.close()
            return
        with suppress(Exception):  # what could not be written cannot be closed either; the first error tells why
            self._opened.close()
        with filling():
            raise error

    def add(self, item: Row | BadRow, outcome: Outcome) -> None:
        """Take down what became of the next row: a BadRow is rejected for its own reason, whatever the outcome."""
        if isinstance(item, BadRow):
            self._reject(item)
        elif isinstance(outcome, Rejected):
            self._reject(item.rejected(outcome.reason, outcome.detail))
        elif taken := self._results.intersection(item.carried if isinstance(item.carried, dict) else ()):
            self._reject(item.rejected("name_collision", f"the row has a key {min(taken)!r}, a result column's name"))
        else:
            self._accept(item, outcome)

    def finish(self) -> Part:
        """Close the files and measure them."""
        self._encoder.close()
        self._encoder.prove()
        self._reject_file.close()
        rejects = Blob.of(self._rejects) if self._reasons else None
        sketch = self._sketcher.sketch() if self._sketcher else None
        return Part(Blob.of(self._part), rejects, self._counts(), sketch)

    def _make_encoder(self) -> ParquetEncoder | JsonlEncoder:
        columns = self._plan.columns
        if self._plan.output_format == "parquet" and columns.schema is not None:
            return ParquetEncoder(self._part, columns.schema, columns.output_schema)
        return JsonlEncoder(self._part, [columns.result_name(name) for name in RESULTS.names])

    def _accept(self, row: Row, outcome: CompressedPrompt) -> None:
        try:
            fingerprint = self._plan.identity.fingerprint(self._plan.columns.content(row.values))
        except RowError as error:
            self._reject(row.rejected(error.reason, error.detail))
            return
        try:
            self._encoder.write(row, results_of(outcome, fingerprint))
        except RecursionError:  # nothing of the row was written
            self._reject(row.rejected(*TOO_DEEP))
            return
        except RowError as error:
            self._reject(row.rejected(error.reason, error.detail))
            return
        self._unplanned += isinstance(row.carried, dict) and self._rest in row.carried
        if self._sketcher:
            self._sketcher.add(row, partial(self._form.prompt, row.values), outcome, fingerprint)
        self._statuses[outcome.status] += 1
        self._tokens[0] += outcome.origin_tokens
        self._tokens[1] += outcome.compressed_tokens
        self._fidelity += outcome.fidelity
        self._predicted += [] if outcome.predicted is None else [outcome.predicted]
        if row.earlier is not None:
            self._reused[0] += 1
            self._reused[1] += outcome.origin_tokens

    def _reject(self, row: BadRow) -> None:
        line = {
            "source": self._shard.source.path,
            "row": row.number,
            "reason": row.reason,
            "detail": encodable(row.detail),
        }
        self._reject_file.write(json.dumps({**line, "raw": row.raw}) + "\n")
        self._reasons[row.reason] += 1
        if self._sketcher:
            self._sketcher.skip()

    def _counts(self) -> Counts:
        rejected = self._reasons.total()
        rows = self._statuses.total() + rejected
        return Counts(
            rows=rows,
            compressed=self._statuses["compressed"],
            passthrough=self._statuses["passthrough"],
            over_budget=self._statuses["over_budget"],
            rejected=rejected,
            rejects=dict(sorted(self._reasons.items())),
            origin_tokens=self._tokens[0],
            compressed_tokens=self._tokens[1],
            reused=self._reused[0],
            reused_tokens=self._reused[1],
            relaxed=self._statuses["relaxed"],
            fidelity=self._fidelity,
            sampled=len(self._predicted),
            predicted=sum(self._predicted),
            unplanned=self._unplanned,
            kept=self._statuses["kept"],
        )


def results_of(outcome: CompressedPrompt, fingerprint: str) -> dict[str, Any]:
    """The result columns of a compressed prompt, by their names without prefix."""
    return {
        "compressed_prompt": outcome.text,
        "compressed_context": list(outcome.context),
        "kept_context": list(outcome.kept_context),
        "origin_tokens": outcome.origin_tokens,
        "compressed_tokens": outcome.compressed_tokens,
        "rate": outcome.rate,
        "fidelity": outcome.fidelity,
        "status": outcome.status,
        "fingerprint": fingerprint,
    }
