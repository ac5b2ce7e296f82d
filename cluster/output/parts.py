"""`PartWriter`: the rows of one shard with their outcomes → a finished part and its rejects, on the local disk.

Rows come in their order; an accepted one gets the result columns behind its own, a rejected one a line with `source`,
`row`, `reason`, `detail` and `raw`. Nothing but a buffer of rows is held in memory, whatever the size of the shard:
what waits to be written is bounded by the memory that it takes, not by what it would take once written.

Rows carry their input columns in the form of the output (`reader.read_rows`): Arrow's for Parquet (zstd), where no row
has arrays of its own, JSON objects for JSON Lines. NaN and infinity are written as Python's `json` writes and reads
them, binary in base64, decimals in digits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import AbortRun, RowError
from cluster.input.columns import AT_A_RATE, ORDER, RESULTS, at_rate
from cluster.input.reader import UNSAYABLE, RowForm
from cluster.input.schema import json_text, unplanned_name
from cluster.input.shards import ArrowRow, BadRow, Row, Shard, encodable, size_of
from cluster.output.plan import Plan
from cluster.output.records import Blob, Counts, Part
from cluster.output.summary import Summarizer
from cluster.storage.local import Scratch, filling
from lingua.assemble import Order, named
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Rejected
from lingua.shared import target_of
from lingua.structured.json import TOO_DEEP

GROUP_BYTES = 32 << 20
GROUP_ROWS = 16384


class PartWriter:
    """Writes one shard's part and rejects into temporary files. A context manager; `finish` before it is left.

    form   of the plan's rows, for the summary's samples; needed where they are structured values
    """

    def __init__(
        self, plan: Plan, shard: Shard, summarizer: Summarizer | None = None, form: RowForm | None = None
    ) -> None:
        self._plan, self._shard, self._summarizer = plan, shard, summarizer
        self._form = form or RowForm(plan.columns)
        with filling(), ExitStack() as opened:  # what is open already is closed when the next cannot be opened
            scratch = Scratch()
            opened.callback(scratch.close)
            self._part, self._rejects = scratch.path / "part", scratch.path / "rejects"
            columns = plan.columns
            self._encoder: ParquetEncoder | JsonlEncoder
            if plan.output_format == "parquet" and columns.schema is not None:
                self._encoder = ParquetEncoder(self._part, columns.schema, columns.output_schema, columns.results)
            else:
                self._encoder = JsonlEncoder(self._part, columns.result_names)
            opened.callback(self._encoder.close)
            self._reject_file = self._rejects.open("w", encoding="ascii", newline="\n")
            opened.callback(self._reject_file.close)
            self._opened = opened.pop_all()
        self._results = frozenset(columns.result_names.values())
        self._rest = None if shard.source.typed else unplanned_name(plan.columns.schema)
        self._counted: Counter[str] = Counter()  # fields of `Counts`
        self._reasons: Counter[str] = Counter()
        self._fidelity = self._predicted = 0.0

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
        self._reject_file.close()
        rejects = Blob.of(self._rejects) if self._reasons else None
        summary = self._summarizer.summary() if self._summarizer else None
        reasons = dict(sorted(self._reasons.items()))
        counts = Counts(**self._counted, rejects=reasons, fidelity=self._fidelity, predicted=self._predicted)
        return Part(Blob.of(self._part), rejects, counts, summary)

    def _accept(self, row: Row, outcome: CompressedPrompt) -> None:
        try:
            fingerprint = self._plan.fingerprint(row.values)
            results = results_of(outcome, fingerprint)
            if outcome.order is not None:
                results[ORDER.name] = named(outcome.order, self._plan.columns.named)
                results |= self._at_further_rates(row, outcome)
            self._encoder.write(row, results)
        except RecursionError:  # nothing of the row was written
            self._reject(row.rejected(*TOO_DEEP))
            return
        except PromptError as error:
            self._reject(row.rejected(error.reason, error.detail))
            return
        if self._summarizer:
            self._summarizer.add(row, partial(self._form.prompt, row.values), outcome, fingerprint)
        self._count(row, outcome)

    def _at_further_rates(self, row: Row, outcome: CompressedPrompt) -> dict[str, Any]:
        """The results at the rates behind the first, by their names, cut by the order of the one at the first."""
        found: dict[str, Any] = {}
        for rate in self._plan.columns.rates:
            order, prompt = Order.read(outcome.order or ""), self._plan.columns.prompt(row.values)
            results = results_of(order.cut(prompt, target_of(rate, outcome.origin_tokens)), "")
            found |= {at_rate(name, rate): results[name] for name in AT_A_RATE}
        return found

    def _count(self, row: Row, outcome: CompressedPrompt) -> None:
        counted = self._counted
        counted.update(("rows", outcome.status))
        counted["origin_tokens"] += outcome.origin_tokens
        counted["compressed_tokens"] += outcome.compressed_tokens
        counted.update(outcome.facts._asdict())
        counted["unplanned"] += isinstance(row.carried, ArrowRow) and row.carried.holds(self._rest)
        self._fidelity += outcome.fidelity
        if outcome.predicted is not None:
            counted["sampled"] += 1
            self._predicted += outcome.predicted
        if row.earlier is not None:
            counted["reused"] += 1
            counted["reused_tokens"] += outcome.origin_tokens

    def _reject(self, row: BadRow) -> None:
        line = {"source": self._shard.source.path, "row": row.number, "reason": row.reason}
        self._reject_file.write(json.dumps({**line, "detail": encodable(row.detail), "raw": row.raw}) + "\n")
        self._reasons[row.reason] += 1
        self._counted.update(("rows", "rejected"))
        if self._summarizer:
            self._summarizer.skip()


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


class ParquetEncoder:
    """Rows of one Arrow schema into a Parquet file; a row group per `GROUP_BYTES` of memory or `GROUP_ROWS`."""

    def __init__(self, path: Path, carried: pa.Schema, output: pa.Schema, results: pa.Schema = RESULTS) -> None:
        self._path, self._output, self._of_results = path, output, results
        self._writer = pq.ParquetWriter(path, output, compression="zstd", write_page_checksum=True)
        self._group = _RowGroup(carried)
        self._results: list[dict[str, Any]] = []
        self._size = self._rows = 0

    def write(self, row: Row, results: dict[str, Any]) -> None:
        assert isinstance(row.carried, ArrowRow)
        self._group.add(row.carried)
        self._results.append(results)
        self._size += size_of(results)
        if self._size + self._group.size >= GROUP_BYTES or len(self._results) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer, and prove the file. Closing twice is fine."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()
            self._prove()

    def _prove(self) -> None:
        """Open the closed file as any reader does. AbortRun when it does not hold what was written."""
        try:
            with pq.ParquetFile(self._path) as file:
                found, rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise AbortRun(f"a part was written that cannot be read ({error}); nothing of it is committed") from None
        if rows != self._rows or (found.names, found.types) != (self._output.names, self._output.types):
            raise AbortRun(
                f"a part reads otherwise than it was written ({rows} rows of {self._rows}, {len(found)} columns of "
                f"{len(self._output)}, or their types); nothing of it is committed"
            )

    def _flush(self) -> None:
        if not self._results:
            return
        carried = self._group.take()
        results = [pa.array([row[field.name] for row in self._results], field.type) for field in self._of_results]
        table = pa.Table.from_arrays([*carried.columns, *results], schema=self._output)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows += table.num_rows
        self._results, self._size = [], 0


class _RowGroup:
    """The input columns of the next row group. `size`: bytes of memory that they keep, as far as batches have ended."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []
        self._current: tuple[pa.RecordBatch, list[int]] | None = None
        self.size = 0

    def add(self, row: ArrowRow) -> None:
        """Append a row: of a batch that goes on, or of another one."""
        if self._current is None or self._current[0] is not row.batch:
            self._end_batch()
            self._current = (row.batch, [])
        self._current[1].append(row.index)

    def take(self) -> pa.Table:
        self._end_batch()
        table = pa.Table.from_batches(self._batches, self._schema)
        self._batches, self.size = [], 0
        return table

    def _end_batch(self) -> None:
        """Copy what was added of a batch, so that no row keeps all the others in memory."""
        if self._current is not None:
            batch, rows = self._current
            runs = np.split(rows, 1 + np.flatnonzero(np.diff(rows) > 1))
            self._batches.append(pa.concat_batches([batch.slice(int(run[0]), len(run)) for run in runs]))
            self.size += self._batches[-1].get_total_buffer_size()
            self._current = None


class JsonlEncoder:
    """Rows as JSON objects, one a line; `names` are the result columns' names in the output."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._names = names

    def write(self, row: Row, results: dict[str, Any]) -> None:
        """Append a row. RowError when JSON cannot hold it: nothing of it is written."""
        assert isinstance(row.carried, dict)
        try:
            line = json_text({**row.carried, **{self._names[name]: value for name, value in results.items()}})
        except UNSAYABLE as error:
            raise RowError("unwritable", f"the row cannot be written as JSON: {error}") from None
        self._file.write(line + "\n")

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        self._file.close()
