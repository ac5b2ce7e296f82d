"""Text of rows made fit to be shown: kept and dropped stretches, and signs for characters that cannot be seen.

Escaping is the template's (always on). Here control characters become their pictures (U+2400 …), as HTML has no NUL,
and the marks that turn the direction of what follows become their names, so that no row can rearrange the page.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.samples import Piece

_SHOWN_AS_THEY_ARE = "\n\t"
_SIGNS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in _SHOWN_AS_THEY_ARE} | {127: "␡"}
_TURNS = {code: f"⟨U+{code:04X}⟩" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_VISIBLE = _SIGNS | _TURNS | dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")


def visible(text: object) -> str:
    """The text with signs for what cannot be seen; lone surrogates become U+FFFD."""
    return str(text).translate(_VISIBLE)


def stretches(piece: Piece) -> Iterator[tuple[str, bool]]:
    """The text of a piece in stretches, each with whether it was kept; one stretch when that is not known."""
    position = 0
    for start, end in piece.kept or ():
        if start > position:
            yield visible(piece.text[position:start]), False
        yield from _marked(piece.text[start:end])
        position = max(position, end)
    if position < len(piece.text):
        yield visible(piece.text[position:]), False


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """A kept stretch; the white space before it is not marked, which would look odd at the end of a line."""
    word = text.lstrip()
    if len(word) < len(text):
        yield visible(text[: len(text) - len(word)]), False
    if word:
        yield visible(word), True
