"""What a dry run estimates: the pace of a sample on a clock that the test turns, extrapolated to rows and workers."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.report import dry_run
from cluster.report.dry_run import SECONDS, Pace, measured, pending
from jobs.compress import main
from lingua.errors import ConfigError
from lingua.prompt import Outcome, Prompt
from tests.fakes import FakeCompressor


class Timed(FakeCompressor):
    """Takes `seconds` on the clock for each prompt, and ten for the first; remembers how many it was given at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.now, self.seconds, self.first = 0.0, seconds, 10.0
        self.given: list[int] = []

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        held = list(prompts)
        self.given.append(len(held))
        self.now += self.seconds * len(held) + self.first
        self.first = 0.0
        return super().stream(held)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    compressor = Timed(0.5)
    monkeypatch.setattr(dry_run, "time", SimpleNamespace(perf_counter=lambda: compressor.now))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return compressor


def told(compressor: Timed, folder: Path, **settings: Any) -> dict[str, str]:
    """The lines of the estimate by their first word."""
    job = JobConfig(output=str(folder / "out"), method="random", dry_run="estimate", **settings)
    lines = pending(job, lambda _: compressor).partition("estimate")[2].splitlines()
    return {"estimate": lines[0].strip(), **{line.split()[0]: line.split(maxsplit=1)[1] for line in lines[1:]}}


def write(path: Path, rows: int) -> str:
    text = "".join(json.dumps({"text": f"row {row} has some words"}) + "\n" for row in range(rows))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_the_rows_of_a_corpus_take_what_those_of_its_sample_took(timed: Timed, tmp_path: Path) -> None:
    found = told(timed, tmp_path, input=write(tmp_path / "in.jsonl", 7200), shard_size="8KiB", workers=1)
    assert found["estimate"].startswith("of about 7,200 rows")
    assert "500 to 500 ms a row" in found["measured"]
    assert found["time"] == "1 worker: 60 to 60 min"
    assert found["price"].startswith("1 to 1 worker hours")
    assert not (tmp_path / "out").exists()


def test_no_more_workers_are_counted_on_than_there_are_shards(timed: Timed, tmp_path: Path) -> None:
    found = told(timed, tmp_path, input=write(tmp_path / "in.jsonl", 90), shard_size="1MiB", workers=40)
    assert found["time"].startswith("1 worker:")


def test_rows_of_compressed_files_are_told_by_the_smallest(timed: Timed, tmp_path: Path) -> None:
    files = [write(tmp_path / name, 400) for name in ("a.jsonl.gz", "b.jsonl.gz")]
    assert told(timed, tmp_path, input=files)["estimate"].startswith("of about 800 rows")


def test_rows_without_a_prompt_take_no_time(timed: Timed, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "some words"}\n{"text": 7}\n' * 60)
    assert "250 to 250 ms a row" in told(timed, tmp_path, input=str(path))["measured"]


def test_a_sample_ends_with_its_time_and_its_first_row_is_not_counted(timed: Timed) -> None:
    groups = measured(timed, [Prompt(context=["some words"])] * 500)
    assert timed.given[0] == 1
    assert sum(rows for rows, _ in groups) == sum(timed.given) - 1
    assert SECONDS - 10.5 <= sum(seconds for _, seconds in groups) < SECONDS
    assert {seconds / rows for rows, seconds in groups} == {0.5}


def test_the_range_holds_what_rows_take_on_average(timed: Timed) -> None:
    draw = random.Random(3)
    held = 0
    for _ in range(200):
        groups = [(rows, sum(draw.expovariate(1) for _ in range(rows))) for rows in [8] * 12]
        low, high = Pace(groups, 1.0, 0.0).seconds(1)
        held += low <= 1 <= high
    assert held > 180
    assert Pace([(4, 2.0)], 1.0, 0.0).seconds(2) == (0.5, 2.0)


def test_a_dry_run_is_a_switch_or_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--input", write(tmp_path / "in.jsonl", 3), "--output", str(tmp_path / "out"), "--method", "random"]
    assert JobConfig.load([*flags, "--dry-run"]).dry_run is True
    assert JobConfig.load(["--dry-run", *flags]).dry_run is True
    assert JobConfig.load(flags).dry_run is False
    assert JobConfig.load([*flags, "--dry-run", "estimate"]).dry_run == "estimate"
    assert JobConfig.load(flags, {"LINGUA_DRY_RUN": "1"}).dry_run is True
    (tmp_path / "job.yaml").write_text("dry_run: true\n")
    assert JobConfig.load([*flags, "--config", str(tmp_path / "job.yaml")]).dry_run is True
    with pytest.raises(ConfigError, match="maybe"):
        JobConfig.load([*flags, "--dry-run", "maybe"])


def test_the_job_prints_the_estimate_behind_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--input", write(tmp_path / "in.jsonl", 30), "--output", str(tmp_path / "out"), "--method", "random"]
    assert main([*flags, "--dry-run", "estimate"], lambda _: FakeCompressor()) == 0
    printed = capsys.readouterr().out
    assert printed.index("settings") < printed.index("estimate   of about 30 rows")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "settings", "warned"),
    [
        ({"text": "a b c"}, {"rate": 0.25}, True),
        ({"text": "a b c"}, {}, False),
        ({"text": "a b c"}, {"rate": 0.5}, False),
        ({"text": "a b c"}, {"target_token": 100}, False),
        ({"context": ["a b c"], "question": "b?"}, {"rate": 0.25}, False),
        ({"context": ["a b c"], "question": "b?"}, {"rate": 0.25, "focus_model": "ignore"}, True),
    ],
)
def test_little_kept_without_a_question_is_said_before_anything_starts(
    row: dict[str, Any], settings: dict[str, Any], warned: bool, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    config = JobConfig(input=str(tmp_path / "in.jsonl"), output=str(tmp_path / "out"), dry_run=True, **settings)
    said = "note       at rate 0.25 with no question known, every method loses much"
    assert (said in pending(config, lambda _: FakeCompressor())) is warned
