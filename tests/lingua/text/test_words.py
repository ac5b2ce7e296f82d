"""Words are kept whole or not at all, in every script, and none is made; and what matching compares."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.prompt import Prompt
from lingua.text import words
from lingua.text.salience import _short_kind, word_kinds
from lingua.text.words import (
    LONG_RUN,
    SPELLING,
    WHOLE,
    are,
    grams,
    keys,
    remembered,
    terms,
    whole_spans,
    word_edges,
    word_spans,
)
from tests.fakes_engine import compressed, drafter, outcomes
from tests.texts import NASTY, PROSE

METHODS = ["evidence", "llmlingua", "longllmlingua", "llmlingua2", "selective", "random", "truncate", "lead", "rarity"]
TARGETS = ["model", "cl100k_base"]
RATES = [0.05, 0.3, 0.5, 0.7, 0.95]
RUNS = regex.compile(rf"{SPELLING}+", regex.V1)
NUMBERS = regex.compile(r"\p{N}+(?:[.:/\-]\p{N}+)*")

FIGURES = {
    "telephone": "Call 255-4488 or visit 106 Harbour Street, suite 710, before 3:30.",
    "amounts": "It cost $12.50, then 1,234.56 euros, 10 000 000 yen, −3.5 % and 1.5e-7 on 2024-03-01 at 12:30:00.",
    "versions": "numpy==2.4.6 needs python>=3.10, not 3.9.1-rc2: https://example.org/a/b?c=1&d=2 or a.b@example.org.",
    "with spaces": "Ring +1 (555) 255-4488, (020) 7946 0958 or 10\u00a0000 others in room 12.",
    "json": '{"id":123,"price":-12.50,"at":"2024-03-01T12:30:00Z","url":"https://example.org/a?b=1","tags":["x1","y-2"],'
    '"uuid":"550e8400-e29b-41d4-a716-446655440000","mail":"a.b@example.org","note":"Dr. Haddad paid 41.50 at noon"}',
    "chinese": "会议于2024年3月14日3:30开始，电话255-4488，网址https://example.org/a，气温-5.5度，共1234人，GPT-4模型。",
    "thai": "คณะกรรมการประชุมวันที่ 14 มีนาคม 2567 เวลา 13:30 งบ 40.5 ล้านยูโร โทร 255-4488 อีเมลa.b@example.org",
    "code": "def area(r):return 3.14159*r**2#v1.2;x1=area(12.5);y_2=x1/7;print(f'{x1:.2f},{y_2:.3f}',file=sys.stderr)"
    * 2,
}
TEXTS = {**NASTY, **FIGURES, "prose": PROSE}


def words_of(text: str) -> list[str]:
    """The units of a text without the white space before them."""
    return [text[a:b].strip() for a, b in pairwise([*word_edges(text).tolist(), len(text)])]


def made_up(original: str, result: str) -> set[str]:
    """Runs of letters and digits, and numbers, of a result that its original does not have."""
    return {one for kind in (RUNS, NUMBERS) for one in set(kind.findall(result)) - set(kind.findall(original))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The well, 3.5 m — O'Neill", ["the", "well", "3", "5", "m", "o", "neill"]),
        ("東京の知事", ["東京", "京の", "の知", "知事"]),
        ("大 of 大阪 2026年 年x", ["大", "of", "大阪", "2026", "年", "年", "x"]),
        ("ก่อตั้ง", ["ก่อ", "อตั้", "ตั้ง"]),
        ("", []),
    ],
)
def test_grams_are_words_and_pairs_of_characters_where_no_spaces_are_written(text: str, expected: list[str]) -> None:
    assert grams(text) == expected


def test_terms_are_words_and_single_characters() -> None:
    assert terms("O'Neill 東京") == ["o", "neill", "東", "京"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("target_tokenizer", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_no_method_makes_a_word_or_number_that_the_text_never_had(
    text: str, target_tokenizer: str, method: str
) -> None:
    for rate in RATES:
        own = {"focus_model": "none"} if method == "evidence" else {}
        result = compressed(text, method=method, rate=rate, target_tokenizer=target_tokenizer, **own)
        assert not made_up(text, result.text), rate
        assert result.compressed_tokens <= result.target_tokens or result.status == "over_budget"


@given(
    st.text(st.sampled_from("ab1 2.,:-/'\n🇩漢三กา\u0e34éカ@(_"), max_size=80),
    st.floats(0.05, 0.95),
    st.sampled_from(["word", "phrase", "sentence"]),
    st.lists(st.sampled_from([".", ",", "\n", "1", "a"]), max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_no_unit_but_the_token_cuts_a_word(text: str, rate: float, unit: str, forced: list[str]) -> None:
    own = drafter(method="random", rate=rate, unit=unit, force_tokens=forced, force_reserve_digit=len(forced) > 1)
    (result,) = outcomes([Prompt(context=[text])], own)
    assert not made_up(text, result.text)  # type: ignore[union-attr]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_whatever_an_edge_cuts_is_found(text: str) -> None:
    for start, end in (found.span() for found in WHOLE.finditer(text)):
        for edge in range(start + 1, min(end, start + 9)):
            assert any(a <= start < edge < end <= b for a, b in whole_spans(text, np.asarray([edge])))


@pytest.mark.parametrize("text", ["42", "Wolfgang", "255-4488"])
def test_a_text_of_one_word_that_does_not_fit_is_kept_whole_and_says_so(text: str) -> None:
    result = compressed(text, method="evidence", focus_model="none", target_token=1)
    assert result.text == text
    assert (result.status == "over_budget") == (result.compressed_tokens > 1)


def test_of_words_that_do_not_fit_the_shortest_is_kept() -> None:
    result = compressed("Wolfgangs Briefmarkensammlungen 1234567890", method="random", target_token=1)
    assert result.text == "Wolfgangs"
    assert result.status == "over_budget"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("คณะกรรมการประชุมเมื่อวันอังคาร", ["คณะ", "กรรมการ", "ประชุม", "เมื่อ", "วัน", "อังคาร"]),
        ("ຄະນະກຳມະການໄດ້ປະຊຸມ", ["ຄະນະ", "ກຳມະການ", "ໄດ້", "ປະຊຸມ"]),
        ("គណៈកម្មាធិការបានប្រជុំ", ["គណៈកម្មាធិការ", "បាន", "ប្រជុំ"]),
        ("ကော်မတီသည်အင်္ဂါနေ့တွင်", ["ကော်မတီ", "သည်", "အင်္ဂါနေ့", "တွင်"]),
    ],
    ids=["thai", "lao", "khmer", "burmese"],
)
def test_scripts_that_need_a_dictionary_are_cut_at_words(text: str, words: list[str]) -> None:
    assert words_of(f"x {text} {text}") == ["x", *words, *words]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("共有1 234 567人", "1 234 567"),
        ("气温-5.5℃左右", "-5.5℃"),
        ("见https://example.org/a?b=c。然后", "https://example.org/a?b=c"),
        ("写信到a.b+c@example.org吧", "a.b+c@example.org"),
        ("三千二百吨", "三千二百"),
        ("于3:30和1,234.56之间", "1,234.56"),
        ('{"v":[1.25,0.5,1234]}' + "," * 100, "1.25"),
        ('{"u":"550e8400-e29b-41d4-a716-446655440000"}' + "," * 100, "550e8400-e29b-41d4-a716-446655440000"),
        ("I paid 10 000 000 yen", "10 000 000"),
        ("Ring +1 (555) 255-4488 now", "+1 (555) 255-4488"),
        ("card 4111 1111 1111 1111.", "4111 1111 1111 1111."),
        ("to DE89 3704 0044 0532 0130 00 today", "DE89 3704 0044 0532 0130 00"),
    ],
)
def test_what_is_one_thing_is_one_word(text: str, whole: str) -> None:
    assert whole in words_of(text)


def test_long_words_are_read_each_time_so_that_what_is_remembered_is_bounded() -> None:
    long, before = "x" * (LONG_RUN + 1), _short_kind.cache_info().currsize
    for number in range(20):
        word_kinds(f"{long}{number}")
    assert _short_kind.cache_info().currsize == before


@pytest.mark.parametrize(("name", "most"), [("_MOST_RUNS", 10), ("_MOST_CHARACTERS", 60)])
def test_what_is_known_of_runs_is_bounded(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, name, most)
    words._lexicon.cache_clear()
    first = words.lexicon()
    for number in range(100):
        keys(f"word{number} and {number}")
        assert len(words.lexicon().folded) <= 3 * most
    assert first is not words.lexicon()
    words._lexicon.cache_clear()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_runs_are_what_the_expression_finds(text: str) -> None:
    runs, known = words.lexicon().read(text), words.lexicon().folded
    assert list(zip(runs.begin.tolist(), runs.end.tolist(), strict=True)) == word_spans(text)
    assert [known[key] for key in runs.key.tolist()] == [text[begin:end].casefold() for begin, end in word_spans(text)]


@given(st.text(alphabet=st.sampled_from(" \n\t.aAé_東กั\u0301\u0e31\u200b\x1c٣-"), max_size=20))
def test_runs_of_any_text_are_what_the_expression_finds(text: str) -> None:
    begins, ends = words._run_edges(text)
    assert list(zip(begins.tolist(), ends.tolist(), strict=True)) == word_spans(text)


def test_two_threads_number_runs_alike() -> None:
    known = words.Lexicon()
    texts = [" ".join(f"w{(7 * number + shift) % 5000}" for number in range(5000)) for shift in range(8)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(known.read, texts))
    assert len(known.folded) == len(set(known.folded)) == 5000
    for text, runs in zip(texts, read, strict=True):
        assert [known.folded[key] for key in runs.key.tolist()] == text.split()


def test_a_long_list_of_numbers_is_cut_between_them() -> None:
    text = ",".join(f"0.{number}" for number in range(100, 400))
    edges = word_edges(text)
    assert len(edges) > 300
    assert not are(r"\p{N}", text)[edges[1:] - 1][are(r"\p{N}", text)[edges[1:]]].any()


def test_the_last_texts_are_remembered_of_long_ones_two_and_none_that_would_fill_the_memory() -> None:
    asked = list[str]()

    @remembered
    def read(text: str) -> int:
        asked.append(text)
        return len(text)

    long, longest = "a" * (words._SHORT_ENOUGH + 1), "a" * (words._LONGEST + 1)
    others = [long + "b", long + "c"]
    for text in ("a", "a", long, long, *others, "a", long, longest, longest):
        assert read(text) == len(text)
    assert asked == ["a", long, *others, long, longest, longest]
