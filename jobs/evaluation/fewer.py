"""A row with fewer context strings: the evidence, and of the others the first. For targets that read little at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobs.evaluation.kept import gold_strings
from jobs.evaluation.rows import EvalRow


def fewer_strings(row: EvalRow, number: int) -> EvalRow:
    """At most `number` strings in their order, but all that hold evidence; `gold` points to where they stand now."""
    if len(row.context) <= number:
        return row
    gold = {index for index in gold_strings(row.gold) if index < len(row.context)}
    others = [index for index in range(len(row.context)) if index not in gold]
    kept = sorted([*gold, *others[: max(0, number - len(gold))]])
    place = {old: new for new, old in enumerate(kept)}
    return replace(row, context=tuple(row.context[index] for index in kept), gold=_moved(row.gold, place))


def _moved(gold: Mapping[str, Any], place: Mapping[int, int]) -> dict[str, Any]:
    moved = {key: _new(key, value, place) for key, value in gold.items()}
    return {key: value for key, value in moved.items() if value is not None}


def _new(key: str, value: Any, place: Mapping[int, int]) -> Any:
    if key in ("doc_index", "para_index", "pair_index", "chunk_index"):
        return place.get(int(value))
    if key == "doc_indices":
        return [place[int(index)] for index in value if int(index) in place]
    if key == "spans":
        return [{**span, **_chunk(span, place)} for span in value]
    if key == "relevant_turns":
        return _turns(value, place)
    return value


def _chunk(span: Mapping[str, Any], place: Mapping[int, int]) -> dict[str, int]:
    return {"chunk_index": place[int(span["chunk_index"])]} if "chunk_index" in span else {}


def _turns(ranges: Sequence[Sequence[int]], place: Mapping[int, int]) -> list[list[int]]:
    """Ranges hold evidence only, which is all kept and stays in its order."""
    return [[place[int(first)], place[int(last)]] for first, last in ranges if int(last) in place]
