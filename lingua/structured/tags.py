"""``<llmlingua, rate=0.4, compress=True>…</llmlingua>``: tags that say how much of a text to keep.

They follow the public `llmlingua` library: both attributes may be absent and stand in any order; ``compress=False``
keeps the text as it is and overrules ``rate``; without a rate the configured one holds. Departs from it in that the
text may hold ``<``, what stands outside of tags is compressed at the configured rate instead of being lost, a rate
of 0 keeps nothing, and what is not a well-formed tag is an error with its position. Tags do not nest, and a text cannot
hold the literal string ``<llmlingua>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Prompt
from lingua.structured.pieces import TextPiece, kept_texts, merged, to_prompt

_ANY = re.compile(r"</?llmlingua(?![\w-])")
_OPENING = re.compile(r"<llmlingua\s*((?:,[^<>]*)?)>")
_CLOSING = re.compile(r"</llmlingua\s*>")
_ATTRIBUTE = re.compile(r"\s*(\w+)\s*=\s*(\S+)\s*")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


class Tags:
    """The structure of a tagged text; `reassemble` gives the text without its tags."""

    def decompose(self, value: str) -> Prompt:
        """The text between and outside of the tags. Raises PromptError (``wrong_type``, ``malformed_tag``)."""
        return to_prompt(parse(value))

    def reassemble(self, value: str, outcome: CompressedPrompt) -> str:
        """What is kept of the text, without tags."""
        return "".join(kept_texts(parse(value), outcome))


def parse(text: str) -> list[TextPiece]:
    """The pieces of a tagged text, in order. Raises PromptError (``wrong_type``, ``malformed_tag``)."""
    if not isinstance(text, str):
        raise PromptError("wrong_type", f"a structured text must be a string, not {type(text).__name__}")
    return list(merged(stretch for piece in _pieces(text) for stretch in _with_white_space(piece)))


def _pieces(text: str) -> Iterator[TextPiece]:
    position, opened, rate = 0, -1, None
    for found in _ANY.finditer(text):
        start = found.start()
        if start < position:
            continue
        yield TextPiece(text[position:start], rate)
        if found.group() == "<llmlingua":
            position, rate = _opening(text, start, opened)
            opened = start
        else:
            position, rate = _closing(text, start, opened), None
            opened = -1
    if opened >= 0:
        raise _malformed(text, opened, "the tag is never closed; write </llmlingua> where it ends")
    yield TextPiece(text[position:], None)


def _with_white_space(piece: TextPiece) -> Iterator[TextPiece]:
    """The piece, with the white space at its ends kept: what is left of it must not run into its neighbours."""
    body = piece.text.strip()
    if piece.verbatim or piece.rate == 0 or not body:
        yield piece
        return
    start = piece.text.index(body)
    yield TextPiece(piece.text[:start], 1.0)
    yield TextPiece(body, piece.rate)
    yield TextPiece(piece.text[start + len(body) :], 1.0)


def _opening(text: str, start: int, opened: int) -> tuple[int, float | None]:
    """Where the tag at `start` ends, and the rate it asks for."""
    if opened >= 0:
        raise _malformed(text, start, f"tags do not nest, and the one at character {opened} is still open")
    tag = _OPENING.match(text, start)
    if tag is None:
        raise _malformed(text, start, "write <llmlingua>, or <llmlingua, rate=0.5, compress=True>")
    try:
        return tag.end(), _rate(tag[1])
    except ValueError as error:
        raise _malformed(text, start, str(error)) from None


def _closing(text: str, start: int, opened: int) -> int:
    if opened < 0:
        raise _malformed(text, start, "no tag is open that this one could close")
    tag = _CLOSING.match(text, start)
    if tag is None:
        raise _malformed(text, start, "write </llmlingua>")
    return tag.end()


def _rate(attributes: str) -> float | None:
    """The rate that a tag's attributes mean; 1: verbatim, None: the configured one. ValueError."""
    values: dict[str, str] = {}
    for attribute in attributes.split(",")[1:]:
        match = _ATTRIBUTE.fullmatch(attribute)
        if match is None:
            raise ValueError(f"{attribute.strip()!r} is not 'rate=…' or 'compress=…'")
        if match[1] in values:
            raise ValueError(f"{match[1]!r} is given twice")
        values[match[1]] = match[2]
    rate, compress = values.pop("rate", None), values.pop("compress", "True")
    if rate is not None and (_NUMBER.fullmatch(rate) is None or float(rate) > 1):
        raise ValueError(f"rate={rate} is not a number between 0 and 1")
    if compress.lower() not in ("true", "false"):
        raise ValueError(f"compress={compress} is neither True nor False")
    if values:
        raise ValueError(f"unknown attribute {next(iter(values))!r}; there are 'rate' and 'compress'")
    if compress.lower() == "false":
        return 1.0
    return None if rate is None else float(rate)


def _malformed(text: str, position: int, fault: str) -> PromptError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    shown = text[position : position + 40].split("\n")[0]
    where = f"character {position} (line {line}, column {column})"
    return PromptError("malformed_tag", f"{shown!r} at {where}: {fault}")
