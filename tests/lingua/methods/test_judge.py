"""What the judge says decides where nothing is asked; where it is absent or cannot read, kind and place do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lingua.budget.draft import Drafter
from lingua.compressor import compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.engine.score import Answer
from lingua.prompt import CompressedPrompt, Prompt
from tests.lingua.echo import tokenizer
from tests.lingua.methods.test_evidence import DEMONSTRATIONS, Meaning, english, one
from tests.texts import NASTY, PROSE


class Judging(Meaning):
    """Behind the states the log-odds that a word is asked for: high for `wanted`, else low."""

    def __init__(self, *wanted: str) -> None:
        super().__init__()
        self.wanted = {token for word in wanted for token in english().ids([word])[0]}

    def states(self, ids: Sequence[int]) -> Answer:
        odds = np.asarray([4.0 if token in self.wanted else -4.0 for token in ids], np.float32)
        return np.concatenate([super().states(ids), odds[:, None], odds[:, None], 0 * odds[:, None]], axis=1)


def judged(prompts: Sequence[Prompt], scorer: Meaning, judged: int = 3, **chosen: object) -> list[CompressedPrompt]:
    config = CompressionConfig(**chosen)
    own = Drafter(tokenizer(), tokenizer(), config, scorer.probe_tokens, reader=english(), judged=judged)
    engine: Engine[CompressedPrompt] = Engine(scorer)
    return list(engine.run(compress_one(prompt, own) for prompt in prompts))


@pytest.mark.parametrize("focus_model", ["ignore", "all-minilm-l6-v2"])
def test_the_sentence_of_the_words_that_it_expects_to_be_asked_for_is_kept(focus_model: str) -> None:
    prompt = Prompt(context=[PROSE])
    (found,) = judged(
        [prompt], Judging("clerk", "asked", "whether", "barges", "wait"), rate=0.3, focus_model=focus_model
    )
    assert "A clerk asked whether the barges could wait" in found.text
    assert "A clerk asked" not in one(prompt, rate=0.3, focus_model="none").text


def test_alone_and_in_a_batch_it_says_the_same() -> None:
    prompts = [Prompt(context=[text, PROSE]) for text in (*DEMONSTRATIONS, PROSE)]
    together = judged(prompts, Judging("clerk"), rate=0.4)
    assert together == [result for prompt in prompts for result in judged([prompt], Judging("clerk"), rate=0.4)]


@pytest.mark.parametrize(
    "text", ["大阪は商人の町である。小池氏は東京都知事である。", "Zyx qwv xkcd! Vrrm tlk brz. " * 3]
)
def test_a_text_that_the_encoder_does_not_know_is_left_to_kind_and_place(text: str) -> None:
    (found,) = judged([Prompt(context=[text])], scorer := Judging(), rate=0.5)
    assert scorer.rows == 0
    assert found == one(Prompt(context=[text]), rate=0.5, focus_model="none")


def test_an_encoder_without_a_judge_is_not_asked_without_a_question() -> None:
    (found,) = judged([Prompt(context=[PROSE])], scorer := Meaning(), judged=0, rate=0.5)
    assert scorer.rows == 0
    assert found == one(Prompt(context=[PROSE]), rate=0.5, focus_model="none")


def test_with_a_question_it_is_not_heard_and_the_states_are_the_same() -> None:
    prompt = Prompt(context=[PROSE], question="Could the barges wait?")
    (found,), (without,) = (judged([prompt], *who, rate=0.4) for who in ((Judging("Vienna"),), (Meaning(), 0)))
    assert found == without


@pytest.mark.parametrize("text", NASTY.values())
def test_any_text_can_be_judged(text: str) -> None:
    for result in judged([Prompt(context=[text, PROSE]), Prompt(context=[text])], Judging("clerk"), rate=0.4):
        assert result.compressed_tokens <= max(1, result.target_tokens) or result.status == "over_budget"
