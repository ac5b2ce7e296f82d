"""Tokens of a text put together from those of its words, which are remembered: a corpus writes the same ones for ever.

Sound for tokenizers whose first step cuts a text before every space that follows a letter, a digit or an ASCII mark,
and then reads each piece by itself: byte-level BPE with the patterns of GPT-2, cl100k and their like, BERT's word
pieces, sentence pieces with a mark for the space (XLM-RoBERTa). Whether one is of this kind, `splits_at_spaces` reads
from its definition; all others read whole texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_PIECE = re.compile(r" *[^ ]+(?:(?<![\w!-~]) +[^ ]*)*| +")
_INNER = re.compile(r" .*[\w!-~]", re.DOTALL)
_MOST, _LONGEST = 1 << 16, 40
"""Pieces that are remembered, and characters of one."""
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Precompiled")
"""Those that change characters or graphemes by themselves: none looks across a space."""
_MODELS = ("BPE", "WordPiece", "Unigram", "WordLevel")
_AT_SPACES = ("BertPreTokenizer", "WhitespaceSplit")
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {f"{_WORDS}|{number}|{_REST}" for number in (r"\p{N}{1,3}", r"\p{N}")}
"""Of Llama 3 and of Qwen 2: no match holds a space behind anything else than white space."""


def pieces_of(text: str) -> list[str]:
    """What such a tokenizer reads by itself, each cut to nothing smaller than a word; they add up to the text."""
    return _PIECE.findall(text)


def stands_inside(piece: str) -> bool:
    """Whether a piece remains one wherever it stands between others of this kind."""
    return _INNER.fullmatch(piece) is not None


def splits_at_spaces(definition: Mapping[str, Any]) -> bool:
    """Whether a tokenizer of `tokenizers`, given as its JSON object, reads such pieces by themselves."""
    model = definition["model"]
    return (
        _is_local(definition.get("normalizer"))
        and model["type"] in _MODELS
        and not model.get("dropout")
        and _cuts(definition.get("pre_tokenizer"))
        and all(_is_plain(token) for token in definition.get("added_tokens", ()))
    )


def _is_local(step: Mapping[str, Any] | None) -> bool:
    """Whether a normalizer changes what stands on both sides of a space as if each stood alone."""
    if step is None or step["type"] in _NORMALIZERS:
        return True
    return step["type"] == "Sequence" and all(map(_is_local, step["normalizers"]))


def _cuts(step: Mapping[str, Any] | None) -> bool:
    """Whether a step before the model's cuts before spaces. Those of a sequence that only cut more do no harm."""
    if step is None:
        return False
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    return all(map(_is_known, steps)) and any(map(_is_cut, steps))


def _is_known(step: Mapping[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or _is_cut(step)


def _is_cut(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step["split"])
    if step["type"] == "ByteLevel":
        return bool(step.get("use_regex", True))
    if step["type"] in _AT_SPACES:
        return True
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        return False
    return step["pattern"].get("Regex") in _PATTERNS


def _is_plain(token: Mapping[str, Any]) -> bool:
    """Whether an added token is read as plain text, or at least holds and touches no white space."""
    stands_alone = token["lstrip"] or token["rstrip"] or token["single_word"] or re.search(r"\s", token["content"])
    return token["special"] or not stands_alone


class Pieces:
    """What is known of pieces: for each an int32 array [tokens, columns], as bytes; `read` makes those of new ones."""

    def __init__(self, read: Callable[[Sequence[str]], Sequence[npt.NDArray[np.int32]]]) -> None:
        self._read = read
        self._known: dict[str, bytes] = {}

    def of(self, pieces: Sequence[str]) -> list[bytes]:
        """The array of each piece, as bytes: cheap to put together."""
        known = self._known
        try:
            return list(map(known.__getitem__, pieces))
        except KeyError:
            new = self._learn([piece for piece in dict.fromkeys(pieces) if piece not in known])
            return [known[piece] if piece in known else new[piece] for piece in pieces]

    def _learn(self, pieces: Sequence[str]) -> dict[str, bytes]:
        new = {piece: array.tobytes() for piece, array in zip(pieces, self._read(pieces), strict=True)}
        short = [piece for piece in new if len(piece) <= _LONGEST][-_MOST:]
        if len(self._known) + len(short) > _MOST:
            self._known = {}  # not emptied: another thread may be reading it
        self._known.update((piece, new[piece]) for piece in short)
        return new
