"""What a compressed text still holds: of rare words, of numbers, of names, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.budget.draft import Draft
from lingua.budget.fidelity import Fidelity, Original
from lingua.prompt import Facts, Prompt
from tests.fakes_engine import compressed, drafter
from tests.models import tokenizer
from tests.texts import NASTY, PROSE


def kept(original: str, left: str) -> Fidelity:
    return Original.of(tokenizer().encode([original])).kept_in(left)


def names(text: str) -> set[str]:
    return set(Original.of(tokenizer().encode([text])).names)


def draft(prompt: Prompt, **settings: object) -> Draft:
    return drafter(**settings).draft(prompt)


@pytest.mark.parametrize("text", [PROSE, *NASTY.values()], ids=["prose", *NASTY])
def test_the_whole_text_keeps_everything_and_nothing_keeps_nothing(text: str) -> None:
    assert kept(text, text).overall == pytest.approx(1.0)
    nothing = kept(text, "")
    assert nothing.overall == (0.0 if text.split() else 1.0)


@given(st.lists(st.sampled_from(PROSE.split()), max_size=40), st.integers(0, 40))
def test_more_text_never_keeps_less(words: list[str], cut: int) -> None:
    some, more = kept(PROSE, " ".join(words[:cut])), kept(PROSE, " ".join(words))
    assert 0 <= some.overall <= more.overall <= 1


def test_rare_words_weigh_more_than_frequent_ones() -> None:
    text = "the zygote and the the of and quixotic"
    rare, frequent = kept(text, "zygote quixotic").information, kept(text, "the and of").information
    assert rare is not None
    assert frequent is not None
    assert rare > 2 * frequent
    assert rare + frequent == pytest.approx(1.0)


def test_a_word_counts_once_however_often_it_stands() -> None:
    assert kept("Vienna is far. Vienna is old.", "Vienna is far old") == kept("Vienna is far old", "Vienna is far old")


@pytest.mark.parametrize(
    ("left", "share"), [("3,200 at 41.50", 1.0), ("3,200", 0.5), ("200 and 41", 0.0), ("none", 0.0)]
)
def test_half_a_number_is_none(left: str, share: float) -> None:
    assert kept("They sold 3,200 tonnes at 41.50 each.", left).numbers == share


def test_numbers_of_every_script_count() -> None:
    assert kept("الثمن ١٢٫٥ دينار و ٧ دراهم", "الثمن ٧").numbers == 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The river Seine runs through Paris. Nobody swims. The end.", {"seine", "paris"}),
        ("NASA paid for it. It was the first.", {"nasa"}),
        ("I think, and I swim in May.", {"may"}),
        ("Will you go, said Will, if they will not?", set()),
        ("В марте Анна приехала в Москву. Потом уехала.", {"анна", "москву"}),
        ("Η Αθήνα είναι παλιά, και η Σπάρτη επίσης.", {"αθήνα", "σπάρτη"}),
        ("Der Zug hielt in Wien.", {"zug", "wien"}),
        ("nothing here has one", set()),
    ],
)
def test_names_are_capitalised_wherever_they_stand(text: str, expected: set[str]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "漢字とひらがなの混ざった文章です。今日は天気がいい。",
        "ذهب الرجل إلى السوق ثم عاد من السوق إلى البيت مع ابنه الصغير",
        "THE COMMITTEE MET IN VIENNA ON TUESDAY TO SETTLE THE PRICE OF COAL",
    ],
)
def test_where_case_tells_nothing_the_rarest_words_stand_in(text: str) -> None:
    words = Original.of(tokenizer().encode([text])).words
    found = names(text)
    assert len(found) == len(words) // 10 > 0
    assert min(words[name] for name in found) >= max(value for word, value in words.items() if word not in found)


def test_what_a_text_has_none_of_leaves_its_weight_to_the_others() -> None:
    assert Fidelity(0.4, Facts()).overall == pytest.approx(0.4)
    assert Fidelity(0.4, Facts(3, 3)).overall == pytest.approx((0.5 * 0.4 + 0.25) / 0.75)
    assert Fidelity(0.4, Facts(3, 3, 2, 0)).overall == pytest.approx(0.45)
    assert Fidelity(None, Facts()).overall == 1.0


def test_what_may_not_be_cut_and_what_is_to_be_dropped_do_not_count() -> None:
    pieces = Prompt("Read.", ["Anna kept verbatim", "a Paris of words", "Bern dropped"], "Who?", " ", [1.0, 0.5, 0.0])
    assert set(Original.of_draft(draft(pieces)).words) == {"a", "paris", "of", "words"}
    assert set(Original.of_draft(draft(pieces, question_rate=0.5)).words) == {"a", "paris", "of", "words", "who"}


def test_every_outcome_says_its_fidelity() -> None:
    few, many = compressed(PROSE, rate=0.2), compressed(PROSE, rate=0.7)
    assert 0 < few.fidelity < many.fidelity < 1
    assert many.fidelity == kept(PROSE, many.text).overall
    whole = compressed(PROSE, rate=1.0)
    assert (whole.status, whole.fidelity) == ("passthrough", 1.0)
