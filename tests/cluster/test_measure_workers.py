"""The scaling measurement counts what it says; the jobs that it measures are tested elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lingua.prompt import Prompt
from tests.cluster.measure_workers import efficiency, timed
from tests.fakes import FakeCompressor


def test_efficiency_is_one_worker_s_time_over_all_workers_together() -> None:
    runs = [
        {"workers": workers, "seconds": seconds, "cpu_seconds": cpu}
        for workers, seconds, cpu in [(1, 10.0, 8.0), (2, 6.0, 9.0), (2, 4.0, 11.0), (1, 10.0, 8.0)]
    ]
    assert efficiency(runs) == {"by_clock": 1.0, "by_processor": 0.8}


def test_a_worker_notes_its_start_and_each_shard(tmp_path: Path) -> None:
    def make(config: Any) -> FakeCompressor:
        return FakeCompressor(config.model)

    config: Any = SimpleNamespace(model="none")
    compressor = timed(tmp_path, make, config)
    for _ in range(2):
        assert len(list(compressor.stream([Prompt(context=["some words that are kept or not"])]))) == 1
    (file,) = tmp_path.iterdir()
    notes = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(notes) == 2
    assert all(note["begun"] <= note["ended"] and note["start"] >= 0 for note in notes)
