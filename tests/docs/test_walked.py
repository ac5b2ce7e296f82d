"""The pages for those who begin: what they say is done from top to bottom, and shows what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walk import walk

PAGES = ["first-corpus.md", "rag-corpus.md", "few-shot-bank.md", "conversations.md", "tuning.md"]


@pytest.mark.model
@pytest.mark.timeout(200)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_goes_as_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    walk(page, capsys, monkeypatch)
