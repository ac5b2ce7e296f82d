"""`python -m jobs.report`: the page is made again, for a finished run and for one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.report import main
from jobs.verify import main as verify
from tests.cluster.report.corpus import finished

TEXTS = [f"document {number} says a few words" for number in range(60)]


def test_it_makes_the_page_again_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, [*TEXTS])
    page = tmp_path / "out" / "_report.html"
    assert main([str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    first = page.read_text()
    page.unlink()
    assert main([str(tmp_path / "out")]) == 0
    assert page.read_text() == first


def test_a_run_that_goes_on_has_a_report_too(tmp_path: Path) -> None:
    finished(tmp_path, [*TEXTS], only=1)
    (tmp_path / "out" / "_stats.json").unlink()
    assert main([str(tmp_path / "out")]) == 0
    assert "Not complete:" in (tmp_path / "out" / "_report.html").read_text()


def test_the_page_says_what_was_saved_at_prices(tmp_path: Path) -> None:
    finished(tmp_path, [*TEXTS])
    assert main([str(tmp_path / "out"), "--price", "new-model=2", "--price", "other-model=3"]) == 0
    text = (tmp_path / "out" / "_report.html").read_text()
    assert "other-model" in text
    assert "<bdi>new-model</bdi>" in text


def test_credentials_are_read_from_the_variable_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, [*TEXTS])
    monkeypatch.setenv("LINGUA_STORAGE_OPTIONS", '["very-secret"]')
    assert main([str(tmp_path / "out")]) == 2
    assert "very-secret" not in capsys.readouterr().err
    monkeypatch.setenv("LINGUA_STORAGE_OPTIONS", '{"secret": "very-secret"}')
    assert main([str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [([], "has no _plan.json"), (["--price", "cheap"], ""), (["--storage-options", "x"], "JSON object")],
)
def test_what_cannot_be_reported_on_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main([str(tmp_path / "nothing"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("job", [main, verify])
@pytest.mark.parametrize("url", ["s3://key:hushhush@bucket/x", "gs://bucket/x?token=hushhush"])
def test_credentials_in_the_url_of_an_output_are_refused_and_not_repeated(
    job: Callable[[list[str]], int], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job([url]) == 2
    said = capsys.readouterr().err
    assert "carries credentials" in said
    assert "hushhush" not in said
