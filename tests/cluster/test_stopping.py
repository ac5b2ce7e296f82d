"""Signals and the grace time."""

from __future__ import annotations

import io
import os
import signal
import sys

import pytest

from cluster.stopping import StopRequest, exit_code, grace_seconds, on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_a_second_one_at_once(number: signal.Signals) -> None:
    stop = StopRequest()
    before = signal.getsignal(number)
    with on_signals(stop):
        os.kill(os.getpid(), number)
        assert (stop.reason, stop.exit_code, stop.at_once) == (number.name, 128 + number, False)
        os.kill(os.getpid(), number)
        assert stop.at_once
    assert signal.getsignal(number) is before


def test_the_first_reason_counts() -> None:
    stop = StopRequest()
    stop.ask("SIGTERM", 143)
    stop.ask("the lease was lost")
    assert (stop.reason, stop.exit_code) == ("SIGTERM", 143)


def test_the_grace_time_follows_the_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    assert grace_seconds() == 1.0
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "60")
    assert grace_seconds() == 58.0


def test_what_a_terminal_cannot_show_ends_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert exit_code(lambda: print("50 → 25 tokens of ü.jsonl", flush=True) or 0) == 0
    assert shown.getvalue() == b"50 ? 25 tokens of ?.jsonl\n"
