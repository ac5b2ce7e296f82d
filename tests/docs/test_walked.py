"""What a page says is done from top to bottom, and shows what it shows."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.store import Store
from tests.docs.walk import DOCS, blocks, python_of, walk
from tests.lingua.models.encoders import save_encoder

README = DOCS.parent / "README.md"
WHOLE = [
    *("first-corpus.md", "rag-corpus.md", "few-shot-bank.md", "conversations.md", "tuning.md"),
    *("after.md", "library.md", "methods-longllmlingua.md"),
]
OF_PYTHON = ["distillation.md", "methods-evidence.md", "methods-llmlingua2.md", "moving-over.md"]
PUBLISHED = "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's working directory; nothing is kept elsewhere."""
    monkeypatch.chdir(tmp_path)
    if find_spec("datasets"):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    if find_spec("lancedb") is None:
        stand_in = ModuleType("lancedb")
        stand_in.__dict__.update(connect=Store().connect, __spec__=ModuleSpec("lancedb", None))
        monkeypatch.setitem(sys.modules, "lancedb", stand_in)
    return tmp_path


@pytest.mark.model
@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
@pytest.mark.parametrize("page", WHOLE)
def test_a_page_goes_as_it_says(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk(blocks(DOCS / page), capsys, monkeypatch)


@pytest.mark.model
@pytest.mark.timeout(200)
@pytest.mark.parametrize("page", [DOCS / page for page in OF_PYTHON] + [README], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_as_it_stands(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = python_of(page)
    if PUBLISHED in str(steps):  # weights that are not here: others of their architecture stand in for them
        words = ["The lighthouse was built in 1871.", "When was it built?", "\n"]
        model = save_encoder(folder / "model", "xlm-roberta", words * 20)
        steps = [(language, text.replace(PUBLISHED, str(model))) for language, text in steps]
    walk(steps, capsys, monkeypatch)


def test_every_page_with_python_is_walked() -> None:
    """But for the DAG of Airflow, which `tests/cluster/deploy/test_schedules.py` runs."""
    pages = {page.name for page in DOCS.glob("*.md") if any(language == "python" for language, _ in blocks(page))}
    assert pages == {*WHOLE, *OF_PYTHON, "deployment.md"}
