"""The README shows what its commands make; the page about the report names what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.report.telemetry import METRICS
from tests.cluster.metrics import exported
from tests.docs.walk import DOCS, blocks, commands
from tests.pools import without_ray


@pytest.mark.model
@pytest.mark.parametrize(("file", "facts"), [("prompts", ["autumn of 2029", "Ruiz and Okafor"]), ("bank", ["80 km"])])
def test_the_readme_shows_what_becomes_of_its_examples(
    file: str, facts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS.parent / "README.md"
    shown = blocks(page)
    place = next(place for place, (_, text) in enumerate(shown) if f"--input {file}.jsonl" in text)
    (_, row), (_, started), (_, after) = shown[place - 1 : place + 2]
    without_ray(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path(f"{file}.json").write_text(row)
    into_lines, words, *_ = commands(started)
    subprocess.run([sys.executable, *into_lines[1:]], check=True, timeout=60)
    assert import_module(words[2]).main(words[3:]) == 0
    (found,) = pq.read_table(words[words.index("--output") + 1]).to_pylist()
    assert found["compressed_prompt"] + "\n" == after
    counted = f"{found['compressed_tokens']} of {found['origin_tokens']} tokens"
    assert counted in page.read_text(encoding="utf-8").replace("\n", " ")
    assert found["compressed_tokens"] <= float(words[words.index("--rate") + 1]) * found["origin_tokens"]
    assert all(fact in after for fact in facts)


def test_the_page_about_the_report_names_every_metric_and_no_other() -> None:
    named = re.findall(r"ray_lingua_\w+", (DOCS / "report.md").read_text(encoding="utf-8"))
    assert set(named) == {exported(metric) for metric in METRICS}


def test_the_page_about_the_report_names_settings_that_exist() -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    table = page[page.index("| setting |") : page.index("Samples are drawn")]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) <= JobConfig.settings().keys()
