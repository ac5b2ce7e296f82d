"""The README shows what its commands make; the page about the report names what there is."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.report.telemetry import METRICS
from tests.docs.walk import DOCS, blocks, commands
from tests.pools import without_ray


@pytest.mark.model
def test_the_readme_shows_what_becomes_of_its_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = blocks(DOCS.parent / "README.md")
    row = next(json.loads(text) for language, text in shown if language == "json")
    started = next(text for _, text in shown if "--input prompts.jsonl" in text)
    after = next(text for language, text in shown if language == "text")
    without_ray(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text(json.dumps(row) + "\n")
    for words in commands(started):
        assert import_module(words[2]).main(words[3:]) == 0
    (found,) = pq.read_table("short").to_pylist()
    assert found["compressed_prompt"] + "\n" == after
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert f"{found['compressed_tokens']} of its {found['origin_tokens']} tokens" in page
    assert all(fact in after for fact in ("autumn of 2029", "Ruiz and Okafor"))


def test_the_page_about_the_report_names_every_metric_and_no_other() -> None:
    named = re.findall(r"ray_lingua_\w+", (DOCS / "report.md").read_text(encoding="utf-8"))
    assert set(named) == {metric.exported for metric in METRICS}


def test_the_page_about_the_report_names_settings_that_exist() -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    table = page[page.index("| setting |") : page.index("Samples are drawn")]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) <= JobConfig.settings().keys()
