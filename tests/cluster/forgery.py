"""Finished outputs changed as a forger would: what vouches for a file is made to agree with what became of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.output.ledger import Ledger
from cluster.output.records import Blob, Record


def reforge(part: Path) -> None:
    """Make the commit record agree with the changed bytes of a part, as a forger would."""
    ledger = Ledger(str(part.parent))
    (path,) = part.parent.glob(f"_records/{part.stem}.*.json")
    blob = Blob.of(part)
    record = replace(Record.from_bytes(path.read_bytes()), part_sha256=blob.sha256, part_size=blob.size)
    ledger.storage.write(str(path), record.to_bytes())


def rewritten(part: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change a part's rows and forge its record."""
    if part.suffix == ".parquet":
        table = pq.read_table(part)
        pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), part)
    else:
        rows = change([json.loads(line) for line in part.read_text().splitlines()])
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reforge(part)


def replanned(output: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the plan and seal it again, as a forger would."""
    content = json.loads((output / "_plan.json").read_text())
    del content["digest"]
    change(content)
    content["digest"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (output / "_plan.json").write_text(json.dumps(content))


def reseal(output: Path) -> None:
    """Make records and fingerprints agree with a changed plan."""
    plan = Ledger(str(output)).plan()
    assert plan is not None
    identity, columns = plan.identity, plan.columns

    def printed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "fingerprint": identity.fingerprint(columns.content(row))} for row in rows]

    for path in output.glob("_records/*.json"):
        record = Record.from_bytes(path.read_bytes())
        path.write_bytes(replace(record, identity=identity.digest()).to_bytes())
    for part in sorted(output.glob("part-*")):
        rewritten(part, printed)
