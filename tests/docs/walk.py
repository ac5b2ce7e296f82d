"""Walks a page as its reader would: its Python, its commands and what it shows of their output, from top to bottom.

Jobs run in this process with the models of the page; only Ray is replaced, by a pool of one worker. In a block of
output every line must have been printed since the block before it; ``…`` in it stands for anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.pools import without_ray

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of a page."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, each as its words."""
    lines = text.replace("\\\n", " ").splitlines()
    return (words for line in lines if (words := shlex.split(line, comments=True)))


def walk(page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do all that a page says in the working directory; the names that its Python has made."""
    without_ray(monkeypatch)
    names: dict[str, Any] = {}
    printed = ""
    for language, text in blocks(DOCS / page):
        if language == "python":
            exec(compile(text, page, "exec"), names)
        elif language == "bash":
            for words in commands(text):
                _start(words)
        printed += capsys.readouterr().out
        if language == "text":
            _require_printed(text, printed)
            printed = ""
    return names


def _start(words: list[str]) -> None:
    assert words[:2] == ["python", "-m"], f"only jobs are started on these pages: {words}"
    assert import_module(words[2]).main(words[3:]) == 0, words


def _require_printed(shown: str, printed: str) -> None:
    for line in filter(str.strip, shown.splitlines()):
        pattern = ".*".join(re.escape(piece) for piece in line.split("…"))
        assert re.search(f"^{pattern}$", printed, re.MULTILINE), f"not printed: {line}\nbut:\n{printed}"
