"""The units of work: every combination once, in waves, under names that never change."""

from __future__ import annotations

from typing import Any

from jobs.evaluation.ledger import Unit, waves
from jobs.evaluation.settings import EvalConfig


def config(**settings: Any) -> EvalConfig:
    chosen = {"data": {"a": "x", "b": "y"}, "output": "memory://o", "candidates": ["lead", "rarity"], "chunk": 4}
    return EvalConfig(**{**chosen, **settings})


def test_every_combination_is_there_once() -> None:
    first, second = waves(config(targets=["t1: model=x", "t2: model=y"]), {"a": 10, "b": 4})
    assert ({unit.target for unit in first}, {unit.target for unit in second}) == ({""}, {"t1", "t2"})
    assert len(first) == (3 + 1) * 4
    assert len(second) == (3 + 1) * 4 * 2
    assert len({unit.name for wave in (first, second) for unit in wave}) == 16 + 32


def test_chunks_cover_every_row_once() -> None:
    (wave,) = waves(config(), {"a": 10})
    lead = [(unit.start, unit.stop) for unit in wave if unit.candidate == "lead"]
    assert lead == [(0, 4), (4, 8), (8, 10)]


def test_what_is_asked_was_compressed_before() -> None:
    first, second = waves(config(targets=["t: model=x"]), {"a": 10, "b": 4})
    assert {unit.compressed.name for unit in second} == {unit.name for unit in first}


def test_the_peer_goes_first_where_others_keep_as_much() -> None:
    found = waves(config(candidates=["lead", "peer"], match_peer=True), {"a": 4})
    assert [[unit.candidate for unit in wave] for wave in found] == [["peer"], ["full", "nothing", "lead"]]


def test_a_units_name_is_its_files_name_and_its_shards() -> None:
    unit = Unit("squad", "lead", "gemma3-270m", 20, 30)
    assert unit.name == unit.shard().name == "squad.lead.gemma3-270m.000020-000030"
    assert unit.shard().rows == 10
