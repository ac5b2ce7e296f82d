"""What a job takes in memory and time does not grow with its corpus; `measure_scale` shows the same at full size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def measure(what: str, size: int) -> dict[str, Any]:
    """In a process of its own: peaks of memory cannot be taken back."""
    command = [sys.executable, "-m", "tests.cluster.measure_scale", what, str(size)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


@pytest.mark.parametrize("what", ["driver", "files"])
def test_a_driver_takes_less_than_a_millisecond_and_a_few_kilobytes_for_a_shard(what: str) -> None:
    measured = measure(what, 2000)
    assert measured["driver_ms_per_shard"] < 1
    assert measured["mib_peak"] - measured["mib_before"] < 40


def test_a_worker_takes_no_more_for_a_corpus_of_many_shards_than_for_its_buffers() -> None:
    measured = measure("worker", 20)
    assert measured["shards"] == 20
    assert measured["mib_peak"] - measured["mib_before"] < 120


def test_rows_that_share_long_strings_take_no_more_however_many_there_are() -> None:
    measured = measure("parquet", 600)
    assert measured["file_kib"] < 200  # of 900 MB
    assert measured["shards"] > 20
    assert measured["mib_worker"] - measured["mib_before"] < 180
    assert measured["mib_peak"] - measured["mib_before"] < 400  # the audit looks at four shards at once
