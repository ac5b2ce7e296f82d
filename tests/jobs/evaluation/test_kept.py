"""What is left of a context: answers, evidence, and how far it can still be read."""

from __future__ import annotations

import pytest

from jobs.evaluation.rows import answer_kept, contains, gold_kept, gold_strings, kept_values, readability, words_of
from lingua.budget.fidelity import Original
from tests.jobs.evaluation.samples import PASSAGES, ROW, row
from tests.models import tokenizer

WHOLE = "\n\n".join(PASSAGES)


@pytest.mark.parametrize(
    ("context", "kept"),
    [
        (WHOLE, 1.0),
        ("born on 7 NOVEMBER, 1867", 1.0),
        ("in 1867.", 1.0),
        ("in 18671", 0.0),
        ("on 7 November", 0.0),
        ("", 0.0),
    ],
)
def test_an_answer_is_kept_if_one_of_its_forms_stands_there_as_whole_words(context: str, kept: float) -> None:
    assert answer_kept(ROW, context) == {"answer_kept": kept}


def test_an_answer_that_never_stood_there_says_nothing() -> None:
    assert answer_kept(row("a", answers=("Kraków",)), WHOLE) == {}


def test_of_demonstrations_no_answer_is_looked_for() -> None:
    assert answer_kept(row("a", set="gsm8k", answers=("1867",)), WHOLE) == {}


def test_an_answer_is_found_in_a_script_without_spaces() -> None:
    chinese = row("a", context=("玛丽居里生于华沙。",), answers=("华沙",))
    assert answer_kept(chinese, "居里华沙") == {"answer_kept": 1.0}
    assert answer_kept(chinese, "华 居里 沙") == {"answer_kept": 0.0}


def test_width_of_letters_does_not_matter() -> None:
    assert words_of("ＡＢＣ １２") == ["abc", "12"]


def test_evidence_is_measured_by_words_that_no_other_string_has() -> None:
    assert gold_kept(ROW, PASSAGES[2]) == {"gold_kept": 1.0, "gold_share": 1.0}
    assert gold_kept(ROW, PASSAGES[0] + PASSAGES[1]) == {"gold_kept": 0.0, "gold_share": 0.0}
    some = gold_kept(ROW, "Marie Curie was born")
    assert some["gold_kept"] == 1.0
    assert 0 < some["gold_share"] < 1


def test_of_several_pieces_of_evidence_each_counts() -> None:
    both = row("a", gold={"doc_indices": [0, 2]})
    assert gold_kept(both, PASSAGES[2]) == {"gold_kept": 0.5, "gold_share": 0.5}


def test_a_string_without_words_of_its_own_counts_by_all_of_them() -> None:
    twins = row("a", context=("one two", "one two"), gold={"doc_index": 0})
    assert gold_kept(twins, "one") == {"gold_kept": 1.0, "gold_share": 0.5}


@pytest.mark.parametrize(
    ("gold", "strings"),
    [
        ({"doc_index": 3}, {3}),
        ({"para_index": 1, "spans": [{"start_in_para": 4}]}, {1}),
        ({"spans": [{"chunk_index": 2}, {"chunk_index": 5}]}, {2, 5}),
        ({"relevant_turns": [[1, 3], [7, 7]]}, {1, 2, 3, 7}),
        ({"pair_index": 18}, {18}),
        ({"final": "18"}, set()),
    ],
)
def test_where_the_evidence_stands_is_known_of_each_form(gold: dict[str, object], strings: set[int]) -> None:
    assert gold_strings(gold) == strings


def test_evidence_beyond_the_context_is_ignored() -> None:
    assert gold_kept(row("a", gold={"doc_index": 9}), WHOLE) == {}


def test_whole_passages_read_as_before_and_scattered_words_do_not() -> None:
    assert readability(PASSAGES, PASSAGES[1]) == {"readable": 1.0, "run_length": float(len(words_of(PASSAGES[1])))}
    assert readability(["a b c d e f"], "a c e") == {"readable": 0.0, "run_length": 1.0}
    assert readability(["a b c d e f"], "a b d e") == {"readable": 2 / 3, "run_length": 2.0}


def test_broken_words_are_no_neighbours() -> None:
    assert readability(["sells fresh muffins"], "sellsins fresh")["readable"] == 0.0


def test_too_little_to_read_says_nothing() -> None:
    assert readability(PASSAGES, "one") == readability(PASSAGES, "") == {}


def test_a_list_within_a_list_stands_in_a_row() -> None:
    assert contains([1, 1, 2], [1, 2])  # type: ignore[list-item]
    assert not contains([1, 3, 2], [1, 2])  # type: ignore[list-item]


def test_a_whole_context_keeps_everything() -> None:
    original = Original.of(tokenizer().encode(list(PASSAGES)))
    values = kept_values(ROW, original, WHOLE)
    assert {name for name, value in values.items() if value == 1} >= {"information", "numbers", "names", "answer_kept"}
    nothing = kept_values(ROW, original, "")
    assert nothing["information"] == nothing["answer_kept"] == nothing["gold_kept"] == 0
