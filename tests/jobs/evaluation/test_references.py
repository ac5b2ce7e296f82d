"""References that a target makes itself: over real HTTP, as the converter writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.errors import RowError
from jobs.evaluation.forms import read
from jobs.evaluation.forms.__main__ import main, with_references
from jobs.evaluation.rows import EvalRow
from tests.jobs.openai_server import Model, openai_server


def articles(folder: Path, count: int) -> str:
    """A file in arXiv's form: each article ends in its own number."""
    lines = [{"entry_id": f"a{n}", "title": "T", "text": f"x § ONE first § TWO second{n}"} for n in range(count)]
    (folder / "articles.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "articles.jsonl")


def test_the_reference_is_what_the_target_says_to_the_whole_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    model, source = Model(), articles(tmp_path, 3)
    with openai_server(model) as url:
        assert main([source, "--references", f"gpt: url={url} model=tiny cache={tmp_path}/answers"]) == 0
    said = capsys.readouterr()
    assert "3 of 3 rows have a reference" in said.err
    (tmp_path / "rows.jsonl").write_text(said.out)
    rows = list(read(str(tmp_path / "rows.jsonl")))
    assert [row.context for row in rows] == [row.context for row in read(source)]
    assert [row.answers for row in rows] == [("Summary:",)] * 3  # this server repeats the last word
    assert all("ONE first" in request["prompt"] for request in model.requests)


class _Choosy:
    """A target that refuses one prompt and has nothing to say to another."""

    name, scores = "choosy", False

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        return [0.0 for _ in prompts]

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        if any("second1" in prompt for prompt in prompts):
            raise RowError("endpoint_refused", "too long")
        return ["" if "second2" in prompt else " a summary " for prompt in prompts]


def test_rows_without_a_reply_are_left_out(tmp_path: Path) -> None:
    rows: list[EvalRow] = list(with_references(read(articles(tmp_path, 5)), _Choosy(), 9, []))
    assert [(row.id, row.answers) for row in rows] == [(f"a{n}", ("a summary",)) for n in (0, 3, 4)]


def test_a_source_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{tmp_path}/missing.jsonl", "--references", "gpt: url=http://127.0.0.1:9/v1 model=tiny"]) == 2
    assert "missing.jsonl: there is no such file" in capsys.readouterr().err
