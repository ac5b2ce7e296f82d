"""Pieces that a tokenizer reads by themselves give the tokens of the whole text, and others are left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lingua.text.tokens import (
    _LONGEST,
    _MOST,
    _MOST_CHARACTERS,
    _PATTERNS,
    PieceCache,
    SourceTokenizer,
    TiktokenTarget,
    cuts_before,
    load_target,
    pieces_of,
)
from tests.models import fast_tokenizer, tokenizer
from tests.texts import NASTY, PROSE

JOINTS = [" ", "  ", "\n", "\n\n", "\r\n", "c\nd", "?\n e", " a", "b ", "'s", "!", "\u0600 ", "3 4"]
texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(JOINTS))).map("".join)


@given(texts)
@pytest.mark.parametrize("spaces", [" ", " \n"])
@settings(deadline=None)
def test_pieces_add_up_and_begin_with_the_white_space_before_a_word(spaces: str, text: str) -> None:
    pieces = pieces_of(text, spaces)
    assert "".join(pieces) == text
    assert all(piece[0] in spaces for piece in pieces[1:])


@given(texts)
@settings(deadline=None)
def test_tokens_of_pieces_are_those_of_the_whole_text(text: str) -> None:
    whole = tokenizer()._backend.encode(text, add_special_tokens=False)
    assert tokenizer().ids([text]) == [whole.ids]
    assert tokenizer().count(text) == len(whole.ids)
    assert tokenizer().starts(text).tolist() == [begin for begin, _ in whole.offsets]


def sentence_pieces(*steps: Any) -> SourceTokenizer:
    """Unigrams over marked spaces, as XLM-RoBERTa has them, trained on a page of prose."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([PROSE, *NASTY.values()], trainer)
    return SourceTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def word_pieces() -> SourceTokenizer:
    """BERT's."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False)
    backend.train_from_iterator([PROSE, *NASTY.values()], trainer)
    return SourceTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))


OTHERS = {
    "word pieces": word_pieces(),
    "sentence pieces": sentence_pieces(),
    "sentence pieces without white space": sentence_pieces(pre_tokenizers.WhitespaceSplit()),
    "sentence pieces marked at spaces alone": sentence_pieces(
        pre_tokenizers.Metaspace(), pre_tokenizers.WhitespaceSplit()
    ),
}


@given(texts)
@pytest.mark.parametrize("name", OTHERS)
@settings(deadline=None)
def test_word_and_sentence_pieces_are_those_of_the_whole_text(name: str, text: str) -> None:
    there = OTHERS[name]
    assert there._spaces == (" " if name in ("sentence pieces", "sentence pieces marked at spaces alone") else " \n")
    whole = there._backend.encode(text, add_special_tokens=False)
    assert there.ids([text]) == [whole.ids]
    assert there.starts(text).tolist() == [begin for begin, _ in whole.offsets]
    assert [tuple(row) for _, table in there._tables([text]) for row in table[:, 1:].tolist()] == whole.offsets


@given(texts)
@settings(deadline=None)
def test_tiktoken_counts_pieces_as_it_counts_the_whole_text(text: str) -> None:
    target = load_target("cl100k_base", tokenizer())
    assert isinstance(target, TiktokenTarget)
    assert target.count(text) == len(target._encoding.encode_ordinary(text))


def definition(**changes: Any) -> dict[str, Any]:
    return json.loads(fast_tokenizer().backend_tokenizer.to_str()) | changes  # type: ignore[no-any-return]


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
TOKEN = {"content": "two words", "special": False, "lstrip": False, "rstrip": False, "single_word": False}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def test_tokenizers_that_cut_before_spaces_are_known_by_their_definition() -> None:
    assert cuts_before(definition()) == " \n"
    assert cuts_before(definition(normalizer={"type": "NFC"})) == " \n"
    for pattern in _PATTERNS:
        split = {**SPLIT, "pattern": {"Regex": pattern}}
        assert cuts_before(definition(pre_tokenizer=sequence(split, BYTES))) == " "


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": None},
        {"pre_tokenizer": BYTES},
        {"pre_tokenizer": {**BYTES, "use_regex": True, "add_prefix_space": True}},
        {"pre_tokenizer": sequence({**SPLIT, "pattern": {"Regex": r"\s+"}}, BYTES)},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": False}},
        {"pre_tokenizer": sequence(BYTES, {"type": "WhitespaceSplit"})},
        {"normalizer": {"type": "Prepend", "prepend": "_"}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_right": True}]}},
        {"added_tokens": [TOKEN]},
        {"added_tokens": [{**TOKEN, "content": "word", "lstrip": True}]},
        {"model": {"type": "BPE", "dropout": 0.1}},
    ],
)
def test_what_might_read_across_a_space_reads_whole_texts(changes: dict[str, Any]) -> None:
    assert cuts_before(definition(**changes)) == ""


def test_short_pieces_are_read_once_and_long_ones_each_time() -> None:
    asked: list[str] = []

    def read(pieces: Sequence[str]) -> list[bytes]:
        asked.extend(pieces)
        return [np.full((len(piece), 1), 7, np.int32).tobytes() for piece in pieces]

    pieces, long = PieceCache(read), "x" * (_LONGEST + 1)
    for _ in range(2):
        assert [len(one) // 4 for one in pieces.of(["ab", long, "ab", ""])] == [2, len(long), 2, 0]
    assert asked == ["ab", long, "", long]


def test_what_is_remembered_is_bounded() -> None:
    pieces = PieceCache(lambda new: [bytes(4)] * len(new))
    for size in (10_000, 3 * _MOST):
        for start in range(0, 3 * _MOST, size):
            pieces.of([str(number) for number in range(start, start + size)])
            assert 0 < len(pieces._known) <= _MOST
    for number in range(2 * _MOST_CHARACTERS // _LONGEST):
        pieces.of([f"{number:>{_LONGEST}}"])
        assert 0 < sum(map(len, pieces._known)) <= _MOST_CHARACTERS


@pytest.mark.parametrize("text", [*NASTY.values(), PROSE])
def test_encodings_of_many_texts_are_those_of_each(text: str) -> None:
    (alone,) = tokenizer().encode([text])
    _, together, _ = tokenizer().encode([PROSE, text, text])
    assert alone.ids.tolist() == together.ids.tolist()
    assert alone.bounds.tolist() == together.bounds.tolist()
