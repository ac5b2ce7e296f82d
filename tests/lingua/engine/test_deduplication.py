"""Equal prompts are compressed once, whatever becomes of the first of them."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from lingua.compressor import Deduplication, PendingOutcome, size_of
from lingua.engine.engine import Engine
from lingua.engine.score import BoundedStore, Context, Program, Score
from lingua.errors import PromptError
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from tests.lingua.echo import EchoScorer


def result(text: str) -> CompressedPrompt:
    return CompressedPrompt(text, "", (), "", (), (), 2, 1, 1)


class Counted:
    """A compressor that counts what it was given; a prompt with the question ``bad`` fails."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self, prompt: Prompt) -> Program[CompressedPrompt]:
        self.given.append(prompt.instruction)
        yield [Score(Context((0,)), [1, 2, len(prompt.instruction)])]
        if prompt.question == "bad":
            raise PromptError("bad", "it had to be")
        return result(prompt.instruction)


def run(prompts: list[Prompt], known: BoundedStore[Outcome], compress: Counted) -> list[Outcome]:
    engine: Engine[PendingOutcome] = Engine(EchoScorer(), max_programs=3)
    repeats = Deduplication(known, compress)
    return [place.outcome for place in engine.run(map(repeats.program, prompts)) if isinstance(place, PendingOutcome)]


def test_equal_prompts_are_compressed_once_in_one_run_and_in_the_next() -> None:
    known, compress = BoundedStore[Outcome](100_000), Counted()
    prompts = [Prompt(name) for name in "aababbcaaac"]
    assert run(prompts, known, compress) == [result(prompt.instruction) for prompt in prompts]
    assert run(prompts, known, compress) == [result(prompt.instruction) for prompt in prompts]
    assert sorted(compress.given) == ["a", "b", "c"]


def test_a_prompt_that_fails_fails_for_all_that_equal_it() -> None:
    compress = Counted()
    outcomes = run([Prompt("a", question="bad")] * 4 + [Prompt("a")], BoundedStore(100_000), compress)
    assert outcomes == [Rejected("bad", "it had to be")] * 4 + [result("a")]
    assert len(compress.given) == 2


@pytest.mark.parametrize(
    "other",
    [
        Prompt("a", ["b", "c"], separator="\n"),
        Prompt("a", ["bc"]),
        Prompt("ab", ["c"]),
        Prompt("a", ["b", "c"], context_rates=[0.5, None]),
        Prompt("a", ["b"], "c"),
    ],
)
def test_prompts_that_differ_in_anything_are_not_the_same(other: Prompt) -> None:
    compress = Counted()
    run([Prompt("a", ["b", "c"]), other], BoundedStore(100_000), compress)
    assert len(compress.given) == 2


def test_what_is_remembered_is_bounded() -> None:
    one = size_of(result("a" * 100))
    known, compress = BoundedStore[Outcome](2 * one), Counted()
    run([Prompt(name * 100) for name in "abc"] * 2, known, compress)
    assert len(known) == 2
    assert len(run([Prompt("x" * one)] * 3, known, compress)) == 3
    assert len(known) == 2


def test_an_outcome_weighs_its_texts_and_spans() -> None:
    few, many = (replace(result("a"), kept_spans=(((0, 1),) * count,)) for count in (1, 1_000))
    assert size_of(many) - size_of(few) > 999 * sys.getsizeof((0, 1))
    assert size_of(result("漢" * 1_000)) > sys.getsizeof("漢" * 1_000)
