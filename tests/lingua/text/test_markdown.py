"""Markdown: which ranges are found, and that they survive compression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.prompt import CompressedPrompt, Prompt
from lingua.text.units import code_blocks, structure_marks
from tests.lingua.echo import compress
from tests.lingua.structured.echo_face import LONG_LINE, PROSE, STRINGS

CODE = "```python\nfor item in items:\n    print(item)  # the item\n```"
DOCUMENT = f"""# How it was settled

{PROSE}

{CODE}

## What came of it

- {PROSE}
- [x] {PROSE}
  1. {PROSE}

> {PROSE}

Remarks
-------
{PROSE}
"""
MARKS = ["# How it was settled\n", "## What came of it\n", "\n-", "\n- [x]", "\n  1.", "\n>", "\nRemarks\n-------\n"]


def shortened(text: str, **settings: object) -> str:
    (outcome,) = compress([Prompt(context=[text])], **settings)
    assert isinstance(outcome, CompressedPrompt)
    return outcome.text


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("a\n```\ncode\n```\nb", ["\n```\ncode\n```\n"]),
        ("~~~ py\n``` inner\n~~~\nb", ["~~~ py\n``` inner\n~~~\n"]),
        ("````\n```\n````\n", ["````\n```\n````\n"]),
        ("- item\n  ```\n  code\n  ```\nb", ["\n  ```\n  code\n  ```\n"]),
        ("> ```\n> code\n> ```", ["> ```\n> code\n> ```"]),
        ("a\r\n```\r\ncode\r\n```\r\nb", ["\r\n```\r\ncode\r\n```\r\n"]),
        ("a\n```\nnever closed", ["\n```\nnever closed"]),
        ("```a``` inline", []),
        ("no `code` here", []),
        ("```\na\n```\nb\n```\nc\n```", ["```\na\n```\n", "\n```\nc\n```"]),
    ],
)
def test_fenced_code_blocks_are_found(text: str, blocks: list[str]) -> None:
    assert [text[start:end] for start, end in code_blocks(text)] == blocks


def test_headings_and_marks_are_found_but_not_within_code() -> None:
    text = f"{DOCUMENT}\n```\n# a comment\n- minus\n```\n"
    found = [text[start:end].removesuffix("\n") for start, end in structure_marks(text)]
    assert found == [mark.removesuffix("\n") if mark[0] != "#" else found[MARKS.index(mark)] for mark in MARKS]
    assert [mark.strip() for mark in found[:2]] == ["# How it was settled", "## What came of it"]


@pytest.mark.parametrize(
    "text", ["#hashtag", "1.5 metres", "-5 degrees", "a - b", "a > b", "--flag", "*emphasis*", "\n\n"]
)
def test_what_only_looks_like_a_mark_is_none(text: str) -> None:
    assert structure_marks(text) == []


@given(st.text(alphabet="#-*>`~1.)[x] \t\r\na="))
def test_ranges_lie_within_the_text_in_order(text: str) -> None:
    for spans in (code_blocks(text), structure_marks(text)):
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)


def test_code_blocks_are_kept_verbatim_if_asked() -> None:
    assert f"\n{CODE}\n" in "\n" + shortened(DOCUMENT, rate=0.3, keep_markdown="code")
    assert CODE not in shortened(DOCUMENT, rate=0.3)


def test_structure_survives_if_asked() -> None:
    short = shortened(DOCUMENT, rate=0.4, keep_markdown="structure")
    lines = short.splitlines()
    for heading in ("# How it was settled", "## What came of it", "Remarks", "-------"):
        assert heading in lines
    for mark in ("- ", "- [x] ", "  1. ", "> "):
        assert any(line.startswith(mark) or line == mark.rstrip() for line in lines)
    assert len(short) < 0.6 * len(DOCUMENT)
    assert not all(line in shortened(DOCUMENT, rate=0.4).splitlines() for line in ("## What came of it", "Remarks"))


def test_a_document_with_a_kept_code_block_is_never_dropped_whole() -> None:
    documents = [PROSE, CODE, *[f"{number} {PROSE[::-1]}" for number in range(8)]]
    (outcome,) = compress([Prompt(context=documents)], rate=0.2, keep_markdown="code")
    assert isinstance(outcome, CompressedPrompt)
    assert CODE in outcome.context


@pytest.mark.parametrize("text", [*STRINGS, LONG_LINE, DOCUMENT], ids=lambda t: repr(t[:12]))
def test_at_rate_one_nothing_changes(text: str) -> None:
    assert shortened(text, rate=1.0, keep_markdown=("code", "structure")) == text
