"""The job from its command line: settings, dry run, and whole runs on a real local Ray without a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.output.ledger import Ledger
from cluster.output.verify import verify
from jobs.compress import main
from tests.cluster.jobs_for_tests import acquire_lease
from tests.forks import Fork
from tests.jobs.compressors import NEW, POISON, deadly, reused_only

ROWS = 300


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """JSON Lines with one line that is no JSON and one row that ends every process that compresses it."""
    texts = [f"document {number} says quite a few words that could be fewer" for number in range(ROWS)]
    texts[123] = f"document 123 {POISON} at once"
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(texts)]
    lines[200] = "{not json"
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that can be digested as a model; nobody loads it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def arguments(corpus: Path, model: Path, **settings: Any) -> list[str]:
    chosen = {"input": corpus, "output": corpus.parent / "out", "model": model, "shard_size": "8KiB", **settings}
    return [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def ids(output: Path) -> list[int]:
    return [row for part in sorted(output.glob("part-*.parquet")) for row in pq.read_table(part)["id"].to_pylist()]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rate", "3"], "rate = '3'"),
        (["--unknown-setting", "1"], "unknown-setting"),
        (["--text-column", "body"], "no column 'body'"),
        (["--input", "nowhere.jsonl"], "nowhere.jsonl: there is no such file"),
        (["--model", "./no-such-model"], "no such file or directory"),
        (
            ["--method", "longllmlingua", "--rank-method", "reranker:./no-such-ranker"],
            "model './no-such-ranker': no such file or directory",
        ),
    ],
)
def test_wrong_settings_are_one_clear_line_and_exit_code_2(
    corpus: Path, model: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main([*arguments(corpus, model), *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--device", "cuda"], "device 'cuda' cannot be used"),
        ([], "cannot be loaded from"),
        (["--target-tokenizer", "./no-such-tokenizer"], "no-such-tokenizer"),
        (["--method", "llmlingua2"], "cannot be loaded from"),
    ],
)
def test_device_model_and_tokenizer_are_looked_at_before_anything_is_written(
    corpus: Path, model: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main([*arguments(corpus, model), *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (corpus.parent / "out").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    corpus: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(corpus, model), "--dry-run"]) == 0
    text = capsys.readouterr().out
    for expected in (str(corpus), "shards     3 of about 8,192 bytes", "rows       300", "text = 'text'", "rate: 0.5"):
        assert expected in text
    assert not (corpus.parent / "out").exists()


def test_another_driver_is_told_who_holds_the_output(
    corpus: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = acquire_lease(Ledger(str(corpus.parent / "out")), "somebody", 60)
    assert main(arguments(corpus, model, lease_seconds=2.5), deadly) == 1
    assert "in use by somebody" in capsys.readouterr().err
    lease.release()


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
@pytest.mark.timeout(180)
def test_a_whole_run_sets_the_poison_row_aside_and_is_not_repeated(
    corpus: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = corpus.parent / "out"
    command = arguments(corpus, model, workers=2)
    assert main(command, deadly) == 0
    assert ids(output) == [number for number in range(ROWS) if number not in (123, 200)]
    rejects = [
        json.loads(line) for file in sorted((output / "_rejects").glob("*")) for line in file.read_text().splitlines()
    ]
    assert sorted((row["row"], row["reason"]) for row in rejects) == [(123, "killed_worker"), (200, "invalid_json")]
    statistics = json.loads((output / "_stats.json").read_text())
    assert (statistics["complete"], statistics["rows"]) == (True, ROWS)
    assert statistics["rejects"] == {"invalid_json": 1, "killed_worker": 1}
    assert "killed_worker" in (output / "_report.html").read_text()
    captured = capfd.readouterr()
    assert captured.out.startswith("Complete: all 3 shards are committed.")
    assert captured.out.endswith(f"{output}/_rejects/*.jsonl\n")
    assert "Traceback" not in captured.err
    assert "raylet" not in captured.out + captured.err
    _another_start_says_that_nothing_is_left(command, output, capfd)


def _another_start_says_that_nothing_is_left(
    command: list[str], output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert main(command, deadly) == 0
    assert "nothing was left to do" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.glob("part-*")} == before
    assert main([*command, "--rate", "0.3"], deadly) == 1
    assert "rate was 0.5, now 0.3" in capfd.readouterr().err


def test_a_dry_run_says_what_would_be_reused(
    corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(corpus, model, reuse=tmp_path / "none"), "--dry-run"]) == 2
    assert "has no _plan.json" in capsys.readouterr().err
    assert main([*arguments(corpus, model, reuse=tmp_path / "snapshots" / "*"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "No complete output among" in told
    assert "\nreuse " not in told


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
@pytest.mark.timeout(180)
def test_a_new_snapshot_shows_the_model_only_what_is_new(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a", "b"):
        rows = [{"id": f"{name}{n}", "text": f"{name}{n} of many words to cut " * 9} for n in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(arguments(folder, model, workers=1), deadly) == 0
    again = arguments(folder, model, workers=1, output=tmp_path / "again", reuse=tmp_path / "out")
    assert main(again, reused_only) == 0
    assert "reused     120 of 120 rows, among them 4 whole shards" in capfd.readouterr().out
    with (folder / "b.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "text": f"{NEW} and many more words"}) + "\n")
    third = arguments(folder, model, workers=1, output=tmp_path / "third", reuse=tmp_path / "a*")
    assert main([*third, "--dry-run"]) == 0
    assert f"{tmp_path / 'again'}: 120 of 121 rows reused; 1 to compress" in capfd.readouterr().out
    assert main(third, reused_only) == 0
    assert "reused     120 of 121 rows" in capfd.readouterr().out
    assert len(ids(tmp_path / "third")) == 121
    assert verify(str(tmp_path / "third")).problems == []


def start_slowly(corpus: Path, model: Path) -> Fork:
    command = [sys.executable, "-m", "tests.jobs.run_slowly", *arguments(corpus, model, workers=2, lease_seconds=8)]
    return Fork(command, env={**os.environ, "RAY_JOB_STOP_WAIT_TIME_S": "3"}, stderr=subprocess.PIPE)


def wait_for_a_part(output: Path, process: Fork) -> None:
    deadline = time.monotonic() + 90
    while not list(output.glob("part-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_stopped_or_killed_is_continued_by_the_next(
    tmp_path: Path, model: Path, number: signal.Signals
) -> None:
    corpus, output = tmp_path / "corpus.jsonl", tmp_path / "out"
    corpus.write_text(
        "".join(json.dumps({"id": n, "text": f"{n} of many words to cut " * 9}) + "\n" for n in range(ROWS))
    )
    process = start_slowly(corpus, model)
    try:
        wait_for_a_part(output, process)
        process.send_signal(number)
        (error,) = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == (143 if number == signal.SIGTERM else -9), error
    assert bool(list(output.glob("_lease-*"))) == (number == signal.SIGKILL)
    assert 0 < len(list(output.glob("part-*"))) < 9
    assert main(arguments(corpus, model, workers=2), deadly) == 0
    assert ids(output) == list(range(ROWS))
