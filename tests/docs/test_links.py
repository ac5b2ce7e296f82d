"""What the pages point to is there: files, headings, tests, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8")))
    for link in (one for one in links if "://" not in one):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_test_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|cluster|lingua|jobs|docs)/[\w./-]+\.\w+)(?:::\w+)?`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b(test_\w+)\.py", text):
        assert list(ROOT.glob(f"tests/**/{name}.py")), name
    for name in re.findall(r"(?:::|`)(test_\w+)`", text):
        assert name in _TESTS, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_job_that_is_started_exists(page: Path) -> None:
    for module in set(re.findall(r"python -m ((?:jobs|cluster)[\w.]*\w)", page.read_text(encoding="utf-8"))):
        if module != "jobs.X":
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_every_page_is_in_the_map_of_the_readme() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == linked


_TESTS = {
    name
    for file in ROOT.glob("tests/**/test_*.py")
    for name in [*re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8")), file.stem]
}
