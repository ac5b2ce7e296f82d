"""Tokens own character ranges that tile the text; no character is ever halved."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.errors import ModelError
from lingua.text.tokens import _GRAPHEME, _grapheme_edges, load_target, require_target
from tests.models import fast_tokenizer, tokenizer
from tests.texts import NASTY, PROSE

TEXTS = {**NASTY, "prose": PROSE}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_atoms_tile_the_text_and_begin_at_graphemes(text: str) -> None:
    (encoding,) = tokenizer().encode([text])
    bounds = encoding.bounds.tolist()
    assert "".join(text[a:b] for a, b in pairwise(bounds)) == text
    assert bounds == sorted(set(bounds))
    graphemes = {found.start() for found in regex.finditer(r"\X", text)} | {0, len(text)}
    assert set(bounds) <= graphemes
    assert encoding.atom.tolist() == sorted(encoding.atom.tolist())
    assert set(encoding.atom.tolist()) == set(range(len(bounds) - 1)) or not len(encoding)


@given(st.text())
def test_any_text_is_tiled(text: str) -> None:
    (encoding,) = tokenizer().encode([text])
    bounds = encoding.bounds.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(text)


JOINING = "ab \r\n.é\u0301\u0600\u0d4eक्ष\u200d👍🏽👩🇩🇪각\u1100\u1161委\0©#\u20e3"


@given(st.text(st.one_of(st.sampled_from(JOINING), st.characters(exclude_categories=["Cs"]))))
@settings(deadline=None)
def test_graphemes_begin_where_unicode_says(text: str) -> None:
    expected = {found.start() for found in _GRAPHEME.finditer(text)}
    assert set(np.flatnonzero(_grapheme_edges(text)).tolist()) == expected


@pytest.mark.parametrize("text", ["<s>", "a </s> b", "<|endoftext|><|endoftext|>"])
def test_special_token_strings_are_plain_text(text: str) -> None:
    (encoding,) = tokenizer().encode([text])
    special = set(fast_tokenizer().all_special_ids)
    assert not special & set(encoding.ids.tolist())
    assert fast_tokenizer().decode(encoding.ids) == text


@pytest.mark.parametrize("name", ["model", "cl100k_base"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_target_counts_as_many_tokens_as_it_starts(name: str, text: str) -> None:
    target = load_target(name, tokenizer())
    starts = target.starts(text)
    assert len(starts) == target.count(text)
    assert (np.diff(starts) >= 0).all()
    assert not len(starts) or 0 <= starts[0] <= starts[-1] < len(text)


def test_an_unknown_target_tokenizer_is_named() -> None:
    with pytest.raises(ModelError, match=r"\./nowhere"):
        load_target("./nowhere", tokenizer())


def test_a_model_in_place_of_an_encoding_is_told_before_anything_is_fetched() -> None:
    with pytest.raises(ModelError, match="give the encoding that it counts in: 'cl100k_base'"):
        require_target("gpt-4")


def test_the_models_own_tokenizer_is_taken_on_trust() -> None:
    require_target("model")
