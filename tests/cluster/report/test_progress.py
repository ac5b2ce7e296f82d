"""The bar and the lines."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from cluster.report.progress import Bar, Lines, Silent, Snapshot, progress_on


def at(done: int, seconds: float = 1.0, failures: int = 0, workers: int = 2) -> Snapshot:
    return Snapshot(done, 10, 100 * done, 1000 * done, 500 * done, workers, failures, seconds)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_few_seconds_and_one_at_the_end() -> None:
    now, stream = 0.0, io.StringIO()
    lines = Lines(stream, every=10, clock=lambda: now)
    for done in range(10):
        now = float(done * 4)
        lines.update(at(done, seconds=now))
    lines.update(at(10, seconds=37))
    lines.update(at(10, seconds=38))
    text = stream.getvalue().splitlines()
    assert [line.split()[2] for line in text] == ["0/10", "3/10", "6/10", "9/10", "10/10"]
    assert "1,000 rows, 270 tokens/s, rate 0.500, 2 workers" in text[-1]


def test_figures_name_failures_and_spare_what_is_not_known() -> None:
    assert at(0).figures() == "0 rows, 2 workers"
    assert at(1, failures=1, workers=1).figures().endswith("1 worker, 1 failed attempt")


def test_what_was_reused_is_no_speed() -> None:
    assert "250 tokens/s, rate 0.500" in replace(at(1, seconds=2), reused_tokens=500).figures()


def test_a_terminal_gets_a_bar_with_the_same_figures() -> None:
    stream = Terminal()
    progress = progress_on(stream)
    assert isinstance(progress, Bar)
    progress.update(at(4))
    progress.note("part-00003 failed")
    progress.update(at(10))
    progress.close()
    assert "10/10" in stream.getvalue()
    assert "part-00003 failed" in stream.getvalue()
    assert "rate 0.500" in stream.getvalue()


def test_what_is_not_a_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_on()
    assert isinstance(progress, Lines)
    progress.note("waiting for a worker")
    progress.close()
    assert capsys.readouterr().err == "waiting for a worker\n"


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.update(at(1))
    silent.note("nothing")
    silent.close()
    assert capsys.readouterr() == ("", "")
