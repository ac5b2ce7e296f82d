"""Walks a page as its reader would: its Python, its commands and what it shows of their output, from top to bottom.

Jobs run in this process with the models of the page; only Ray is replaced, by a pool of one worker. A block of output
is the whole standard output of the block of code before it, but for what differs from run to run: times, what is
counted in a second, and the reader's folder, which pages call ``/home/you``. Code whose libraries are not installed
here is passed over.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.pools import without_ray

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_VARIES = re.compile(r"\d[\d,.]*(?= (?:s|ms|tokens/s)\b)")


Block = tuple[str, str]


def blocks(page: Path, title: str = "") -> list[Block]:
    """Language and text of each block of a page, or of its section with this title."""
    text = page.read_text(encoding="utf-8")
    section = text[text.index(f"## {title}\n") + 3 :].partition("\n## ")[0] if title else text
    return _BLOCK.findall(section)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, each as its words."""
    lines = text.replace("\\\n", " ").splitlines()
    return (words for line in lines if (words := shlex.split(line, comments=True)))


def python_of(page: Path) -> list[Block]:
    """The Python of a page, and what it prints: of pages whose commands are about files that only the reader has."""
    found = [("", ""), *blocks(page)]
    shown = pairwise(found)
    return [block for before, block in shown if "bash" not in (block[0], before[0] if block[0] == "text" else "")]


def walk(steps: Sequence[Block], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do all that a page says in the working directory; the names that its Python has made."""
    without_ray(monkeypatch)
    names: dict[str, Any] = {}
    capsys.readouterr()
    printed = ""
    for language, text in steps:
        if language == "text":
            assert steady(printed) == steady(text), f"the page shows\n{text}\nand this was printed:\n{printed}"
        elif language == "bash":
            for words in commands(text):
                _start(words)
        elif language == "python" and all(map(_installed, _imported(text))):
            exec(compile(text, "page", "exec"), names)
        printed = capsys.readouterr().out
    return names


def steady(text: str) -> str:
    """A text without what differs from run to run."""
    return _VARIES.sub("#", text.replace(str(Path.cwd()), "/home/you")).rstrip()


def _start(words: list[str]) -> None:
    assert words[:2] == ["python", "-m"], f"only jobs are started on these pages: {words}"
    assert import_module(words[2]).main(words[3:]) == 0, words


def _imported(code: str) -> set[str]:
    """The packages that code imports."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    found = [getattr(node, "module", None) or node.names[0].name for node in nodes]
    return {name.partition(".")[0] for name in found}


def _installed(package: str) -> bool:
    return find_spec(package) is not None
