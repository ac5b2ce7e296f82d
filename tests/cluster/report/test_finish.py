"""The end of a run: its statistics and its report; and the prices that a report may be given."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.output.records import Statistics
from cluster.report.page import parse_price
from cluster.report.statistics import RunReport, finish
from jobs.compress import main
from lingua.errors import ConfigError
from tests.cluster import drive_job
from tests.cluster.jobs_for_tests import write_lines
from tests.cluster.report.corpus import finished
from tests.fakes import REJECT

TEXTS = [f"document {number} says a few words" for number in range(30)]


def end_of_run(folder: Path, stopped: str | None = None, **settings: Any) -> list[str]:
    """Conclude a run over a small corpus; what was said."""
    ledger = finished(folder, [*TEXTS])
    plan = ledger.plan()
    assert plan is not None
    total = Statistics.over(ledger.records())
    report = RunReport(len(plan.shards), total, total, 5.0, stopped=stopped)
    config = JobConfig(input=str(folder / "in.jsonl"), output=str(folder / "out"), shard_size=1024, **settings)
    with redirect_stdout(StringIO()) as said:
        finish(config, ledger, plan, report)
    return said.getvalue().splitlines()


def test_the_end_leaves_statistics_and_a_report(tmp_path: Path) -> None:
    assert end_of_run(tmp_path) == []
    assert json.loads((tmp_path / "out" / "_stats.json").read_text())["complete"]
    assert "Complete:" in (tmp_path / "out" / "_report.html").read_text()


def test_a_stopped_run_writes_no_report(tmp_path: Path) -> None:
    end_of_run(tmp_path, "SIGTERM")
    assert (tmp_path / "out" / "_stats.json").exists()
    assert not (tmp_path / "out" / "_report.html").exists()


def test_a_run_that_the_ceiling_ends_leaves_its_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cluster.run.pool", ModuleType("cluster.run.pool"))  # until the end
    drive_job.leave_ray_out()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    write_lines(tmp_path / "in.jsonl", [{"text": REJECT if n % 2 else "a few words"} for n in range(40)])
    named = {"input": "in.jsonl", "output": "out", "model": "model"}
    command = [part for name, file in named.items() for part in (f"--{name}", str(tmp_path / file))]
    for _ in range(2):  # the second finds all of it committed
        assert main(command, drive_job.paced) == 1
        assert "error: 20 of 40 rows (50.00%) are rejected" in capsys.readouterr().err
        statistics = json.loads((tmp_path / "out" / "_stats.json").read_text())
        assert (statistics["complete"], statistics["rows"], statistics["rejects"]) == (False, 40, {"asked_for": 20})
        assert statistics["last_run"]["stopped"].startswith("20 of 40 rows")
    assert main([*command, "--max-rejected", "100%"], drive_job.paced) == 0
    assert json.loads((tmp_path / "out" / "_stats.json").read_text())["complete"]


def test_a_report_that_cannot_be_made_is_said_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cluster.output.ledger.Ledger.write_report", full)
    (said,) = end_of_run(tmp_path)
    assert "no report was written" in said
    assert f"python -m jobs.report {tmp_path / 'out'}" in said


def test_prices_are_names_and_amounts() -> None:
    assert list(map(parse_price, ("gpt-4o=2.50", "a=b=0"))) == [("gpt-4o", 2.5), ("a=b", 0.0)]


@pytest.mark.parametrize("entry", ["gpt-4o", "=2", "m=", "m=cheap", "m=-1", "m=nan", "m=inf"])
def test_other_prices_are_refused_with_an_example(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"e\.g\. 'gpt-4o=2\.50'"):
        parse_price(entry)


def test_watching_does_not_change_what_an_output_is() -> None:
    plain = JobConfig(input="in.jsonl", output="/out")
    watched = replace_settings(plain, report_samples=0, log_format="json")
    assert watched.identity_settings() == plain.identity_settings()


def replace_settings(config: JobConfig, **settings: Any) -> JobConfig:
    return config.model_copy(update=settings)
