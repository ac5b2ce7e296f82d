"""The Python of the pages about results and the library runs as it is written there."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.report.telemetry import METRICS
from cluster.run.worker import load_compressor
from tests.cluster.input.test_structured_columns import made
from tests.cluster.report.corpus import finished
from tests.docs.walk import blocks, commands
from tests.models import save
from tests.pools import without_ray

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXTS = [f"document {number} says a few words that could be fewer" for number in range(40)]


def sections(page: str) -> dict[str, str]:
    """The Python of a page by the heading that it stands under."""
    found = re.split(r"^#+ (.*)$", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    code = {
        title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for title, text in zip(found[1::2], found[2::2], strict=True)
    }
    return {title: "\n".join(blocks) for title, blocks in code.items() if blocks}


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run the code of a section, unless a library that it imports is not installed."""
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    exec(compile(code, "docs", "exec"), names)
    return names


def embed(text: str) -> list[float]:
    """A vector of how often each letter and digit occurs."""
    return [float(text.lower().count(sign)) for sign in "abcdefghijklmnopqrstuvwxyz0123456789"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an output called `compressed`."""
    finished(tmp_path, [*TEXTS])
    (tmp_path / "out").rename(tmp_path / "compressed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


def test_every_section_of_the_page_about_results_is_tried_here() -> None:
    tried = {"pandas", "DuckDB", "Hugging Face datasets", "A prompt within a budget"}
    stores = {"A vector store: search the original, read the compressed", "Scored once, cut for each question"}
    assert sections("after.md").keys() == tried | stores


def test_pandas_reads_an_output(folder: Path) -> None:
    frame = run(sections("after.md")["pandas"], {})["frame"]
    assert list(frame.id) == [f"doc-{number}" for number in range(40)]
    assert frame.compressed_tokens.sum() == 200


def test_duckdb_reads_an_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(sections("after.md")["DuckDB"], {})
    assert re.search(r"compressed .* 40 .* 0\.5", capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_datasets_reads_an_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    dataset = run(sections("after.md")["Hugging Face datasets"], {})["dataset"]
    assert dataset.num_rows == 40
    assert dataset.column_names[:3] == ["id", "text", "unplanned_columns"]


@pytest.mark.filterwarnings("default")
def test_a_vector_store_searches_the_original_and_returns_the_compressed(folder: Path) -> None:
    code = sections("after.md")["A vector store: search the original, read the compressed"]
    documents = run(code, {"embed": embed})["documents"]
    assert len(documents) == 5
    compressed = set(pq.read_table(folder / "compressed").column("compressed_prompt").to_pylist())
    assert set(documents) <= compressed


def test_a_prompt_is_assembled_within_its_budget() -> None:
    pytest.importorskip("tiktoken_ext")
    names = {"documents": TEXTS, "question": "What does document 17 say?"}
    prompt = run(sections("after.md")["A prompt within a budget"], names)["prompt"]
    assert prompt.tokens <= 1000
    assert prompt.used == tuple(range(40))


class Store:
    """As much of LanceDB as the page uses: the nearest records by the cosine of their vectors."""

    def connect(self, path: str) -> Store:
        return self

    def create_table(self, name: str, records: list[dict[str, Any]]) -> Store:
        self.found = records
        return self

    def search(self, vector: list[float]) -> Store:
        def distance(other: list[float]) -> float:
            return 1 - sum(map(float.__mul__, vector, other)) / math.hypot(*vector) / math.hypot(*other)

        records = [{**record, "_distance": distance(record["vector"])} for record in self.found]
        self.found = sorted(records, key=lambda record: record["_distance"])
        return self

    def distance_type(self, kind: str) -> Store:
        return self

    def limit(self, count: int) -> Store:
        self.found = self.found[:count]
        return self

    def to_list(self) -> list[dict[str, Any]]:
        return self.found


def test_documents_of_a_vector_store_are_cut_for_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiktoken_ext")
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("lancedb") is None:
        monkeypatch.setitem(sys.modules, "lancedb", Store())
    command = re.search(r"jobs.compress (.*) --method evidence (--keep-order .*)", (DOCS / "after.md").read_text())
    assert command is not None
    Path("corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    flags = [*command[1].split(), *command[2].split(), "--method", "rarity", "--model", str(save(tmp_path / "model"))]
    made(JobConfig.load(flags, {}), load_compressor)
    names: dict[str, Any] = {"embed": embed}
    exec(sections("after.md")["Scored once, cut for each question"], names)
    assert names["prompt"].tokens <= 60
    assert "17" in names["prompt"].text


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


@pytest.mark.model
@pytest.mark.timeout(200)
def test_the_page_about_the_library_runs_from_top_to_bottom() -> None:
    code = sections("library.md")
    names: dict[str, Any] = {
        "texts": ["The committee met on Tuesday and agreed on a budget of 40 million for the new bridge."]
    }
    run(code["As a library"], names)
    assert names["outcome"].compressed_tokens < names["outcome"].origin_tokens
    run(code["Many prompts"], names)
    run(code["What was lost"], names)
    assert names["outcome"].fidelity >= 0.5
    assert names["outcome"].predicted is not None
    run(code["Scored once, cut at any budget"], names)
    run(code["What was kept"], names)
    kept = "".join(names["texts"][0][start:end] for start, end in names["outcome"].kept_spans[0])
    assert kept.split() == names["outcome"].text.split()


@pytest.mark.parametrize(("section", "text"), [("LangChain", "page_content"), ("LlamaIndex", "text")])
def test_adapters_are_used_as_the_page_says(section: str, text: str) -> None:
    from tests.fakes import FakeCompressor

    names = run(sections("library.md")[section], {"texts": ["one two three four"], "compressor": FakeCompressor()})
    assert [getattr(one, text) for one in names["shorter"]] == ["one three"]
