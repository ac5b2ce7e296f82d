"""Markdown as ranges of characters to protect: fenced code blocks, headings, and the marks of lists and quotations.

Follows CommonMark line by line, without building a tree: fences of three or more backticks or tildes, also within
lists and quotations, an open one running to the end; ATX and setext headings with their text; bullets, numbers and task
boxes of list items; quotation marks. A range takes the line breaks around it along, so that the line stays a line. Code
by indentation, tables and HTML are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lingua.prompt import Span

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_CONTAINERS = r"[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]+|>)*"
_FENCE = re.compile(_CONTAINERS + r"(`{3,}(?=[^`]*\Z)|~{3,})")
_HEADING = re.compile(_CONTAINERS + r"#{1,6}(?:[ \t]|\Z)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*")
_MARKS = re.compile(r"[ \t]*(?:>[ \t]*)*(?:(?:[-*+]|\d{1,9}[.)])(?=[ \t]|\Z)(?:[ \t]+\[[ xX]\])?[ \t]*)*")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line without its break; `start` is where the break before it begins, `end` where the next line does."""

    text: str
    start: int
    begin: int
    end: int


def code_blocks(text: str) -> list[Span]:
    """The fenced code blocks, from the line break before the opening fence to the end of the closing one's line."""
    return [span for span, _ in _blocks(_lines(text))] if "```" in text or "~~~" in text else []


def structure_marks(text: str) -> list[Span]:
    """Headings with their text, and the marks of list items and quotations; none within code blocks."""
    lines = _lines(text)
    in_code = {line.begin for _, block in _blocks(lines) for line in block}
    outside = [line for line in lines if line.begin not in in_code]
    before = [None, *outside[:-1]]
    return [span for line, previous in zip(outside, before, strict=False) for span in _marks(line, previous)]


def _marks(line: _Line, previous: _Line | None) -> Iterator[Span]:
    if _HEADING.match(line.text):
        yield line.start, line.end
    elif previous is not None and _is_title(previous, line):
        yield previous.start, line.end
    else:
        marks = _MARKS.match(line.text)
        length = len(marks.group().rstrip()) if marks is not None else 0
        if length:
            yield line.start, line.begin + length


def _is_title(line: _Line, below: _Line) -> bool:
    return bool(line.text.strip()) and line.end == below.begin and _UNDERLINE.fullmatch(below.text) is not None


def _lines(text: str) -> list[_Line]:
    lines: list[_Line] = []
    start = 0
    for found in _LINE.finditer(text):
        body = found.group().rstrip("\r\n")
        lines.append(_Line(body, start, found.start(), found.end()))
        start = found.start() + len(body)
    return lines


def _blocks(lines: list[_Line]) -> Iterator[tuple[Span, list[_Line]]]:
    """Each fenced block: its range and its lines."""
    block: list[_Line] = []
    fence = ""
    for line in lines:
        found = _FENCE.match(line.text)
        if not block and found is not None:
            block, fence = [line], found[1]
        elif block:
            block.append(line)
            if _closes(line.text, fence):
                yield (block[0].start, line.end), block
                block = []
    if block:
        yield (block[0].start, block[-1].end), block


def _closes(line: str, fence: str) -> bool:
    body = line.strip(" \t>")
    return len(body) >= len(fence) and not body.strip(fence[0])
