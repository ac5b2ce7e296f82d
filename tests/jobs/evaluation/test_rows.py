"""How rows are written for a target: parts joined, one cue, and the answer that is scored."""

from __future__ import annotations

import pytest

from jobs.evaluation.rows import QA, template_of
from tests.jobs.evaluation.samples import ROW, row


def test_a_prompt_is_instruction_context_question_and_cue() -> None:
    assert QA.prompt(ROW, ["A."]) == "Answer from the passages.\n\nA.\n\nWhen was Marie Curie born?\nAnswer:"


def test_without_context_nothing_stands_for_it() -> None:
    assert (
        QA.prompt(ROW, []) == QA.prompt(ROW, [""]) == "Answer from the passages.\n\nWhen was Marie Curie born?\nAnswer:"
    )


@pytest.mark.parametrize("question", ["Who?\nAnswer:", "谁？\n回答：", "Key: x\nCorresponding value:"])
def test_a_question_that_asks_for_its_answer_gets_no_second_cue(question: str) -> None:
    assert QA.prompt(row("a", question=question), []).endswith(question)


def test_every_right_answer_is_scored_after_a_space() -> None:
    assert QA.scored(row("a", answers=("one ", "", "two"))) == [" one", " two"]


def test_a_worked_solution_is_scored_where_there_is_one_without_calculator_marks() -> None:
    solution = "She sells 16 - 3 = <<16-3=13>>13 eggs.\n#### 13"
    sums = row("a", set="gsm8k", answers=("13",), gold={"solution": solution})
    assert template_of(sums).scored(sums) == ["\nShe sells 16 - 3 = 13 eggs.\nThe answer is 13"]
    assert template_of(sums).scored(row("b", gold={}, answers=("13",))) == ["\n13"]


@pytest.mark.parametrize(
    ("name", "cue"), [("bbh-snarks", ""), ("BBH", ""), ("bbhx", "\nAnswer:"), ("sharegpt", "\n\nAssistant:")]
)
def test_a_row_is_written_as_its_own_set_says(name: str, cue: str) -> None:
    assert template_of(row("a", set=name)).cue == cue


def test_what_the_compressor_sees_is_joined_as_the_target_reads_it() -> None:
    meeting = row("a", set="qmsum")
    template = template_of(meeting)
    assert template.original(meeting).text + template.cue == template.prompt(meeting, meeting.context)
