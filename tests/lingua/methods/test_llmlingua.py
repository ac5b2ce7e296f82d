"""LLMLingua is the paper's: equal to a naive transcription on plain forwards, token for token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lingua.budget.draft import Draft
from lingua.budget.selection import optional_rate
from lingua.engine.engine import Engine
from lingua.engine.score import Scorer
from lingua.methods import METHODS
from lingua.methods.llmlingua import SentenceFilter, filter_sentences, part_rates
from lingua.models.causal import PlainScorer
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer
from lingua.prompt import Prompt
from lingua.text.sentences import sentence_edges
from tests import oracle
from tests.fakes_engine import BigramScorer, compressed, drafter, outcomes
from tests.models import PACKED, UNPACKED, WINDOW, tiny, tokenizer
from tests.texts import PROSE

SENTENCES = [sentence + "." for sentence in PROSE.replace("é", "e").split(". ") if sentence]
PROMPT = Prompt(
    "Read the notes and answer the question at the end.",
    [" ".join(SENTENCES[first : first + 2]) for first in range(5)],
    "How did the committee vote, and what did it do then?",
)
ONE_TEXT = Prompt(context=[" ".join(SENTENCES) * 2])
PAPER: dict[str, Any] = {"unit": "token", "instruction_rate": 0.85, "question_rate": 0.9, "iterative_size": 20}


def decided(prompt: Prompt, scorer: Scorer, **settings: Any) -> Draft:
    """What the method leaves, before the exact budget is settled."""
    own = drafter(**settings)
    draft = own.draft(prompt)
    list(Engine(scorer).run([METHODS["llmlingua"].program(draft, own.config.own)]))
    return draft


def transcribed(draft: Draft, model: Any, window: int) -> tuple[list[int], list[list[bool]]]:
    """The oracle's demonstrations and masks."""
    config, source = draft.config, tokenizer()
    encode = [one.ids.tolist() for one in source.encode([draft.prompt.separator, draft.prompt.instruction])]
    question = source.encode([draft.prompt.question])[0].ids.tolist()
    demonstrations = [one.ids.tolist() for one in source.encode(draft.prompt.context)]
    settings = oracle.Settings(
        2.0, config.flat()["iterative_size"], config.instruction_rate, config.question_rate, source.bos or 0, encode[0]
    )
    reader = oracle.Reader(model, source.bos or 0, window)
    target = draft.target_tokens
    chosen = oracle.algorithm_1(reader, (encode[1], demonstrations, question), target, settings)
    thinned = [demonstrations[index] for index in chosen]
    return chosen, oracle.algorithm_2(reader, (encode[1], thinned, question), target, settings)


@pytest.mark.parametrize("name", [*PACKED, *UNPACKED])
@pytest.mark.parametrize("rate", [0.3, 0.6])
@pytest.mark.parametrize("prompt", [PROMPT, ONE_TEXT], ids=["demonstrations", "one text"])
def test_it_keeps_what_the_transcription_of_the_paper_keeps(prompt: Prompt, rate: float, name: str) -> None:
    scorer = causal_scorer(tiny(name))
    scorer.window = WINDOW
    draft = decided(prompt, scorer, rate=rate, **PAPER)
    chosen, masks = transcribed(draft, tiny(name), WINDOW)
    assert draft.chosen == chosen
    assert [part.keep.tolist() for part in draft.parts] == masks
    assert sum(map(sum, masks)) > 20


@pytest.mark.parametrize("unit", ["token", "word", "sentence"])
@pytest.mark.parametrize("name", PACKED)
def test_cached_and_plain_scorers_keep_the_same(name: str, unit: str) -> None:
    settings = {"rate": 0.4, "iterative_size": 25, "unit": unit}
    fast, slow = causal_scorer(tiny(name)), PlainScorer(tiny(name))
    prompts = [PROMPT, ONE_TEXT, Prompt(context=["One short line."])]
    assert outcomes(prompts, drafter(**settings), fast) == outcomes(prompts, drafter(**settings), slow)


def test_batched_and_alone_keep_the_same() -> None:
    own = drafter(rate=0.5, iterative_size=30)
    prompts = [Prompt(context=[" ".join(SENTENCES[: 1 + number % 5])] * (1 + number % 3)) for number in range(12)]
    together = outcomes(prompts, own, causal_scorer(tiny("llama")))
    alone = [outcomes([prompt], own, causal_scorer(tiny("llama"), Allowance(17)))[0] for prompt in prompts]
    assert together == alone


def test_a_text_of_ten_windows_is_compressed_evenly_to_its_end() -> None:
    scorer = causal_scorer(tiny("llama"))
    result = compressed(PROSE * 8, scorer, rate=0.3, iterative_size=20)
    assert result.origin_tokens > 10 * WINDOW
    kept = np.zeros(len(PROSE * 8))
    for start, end in result.kept_spans[0]:
        kept[start:end] = 1
    assert all(0.1 < quarter.mean() < 0.6 for quarter in np.array_split(kept, 4))


def test_the_shared_rate_is_worked_out_once_however_many_strings_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    monkeypatch.setattr(
        "lingua.methods.llmlingua.optional_rate",
        lambda parts, budget: visited.append(len(parts)) or optional_rate(parts, budget),
    )

    def parts_visited(strings: int) -> int:
        visited.clear()
        prompt = Prompt(context=["several words each"] * strings, context_rates=[None] * strings)
        part_rates(drafter(rate=0.5, method="llmlingua").draft(prompt))
        return sum(visited)

    assert parts_visited(80) <= 2 * parts_visited(40)


def test_forced_context_strings_are_kept_whatever_they_cost() -> None:
    for index in range(len(PROMPT.context)):
        result = compressed(PROMPT, rate=0.4, force_context_ids=[index])
        assert index in result.kept_context


def test_a_protected_span_keeps_its_string() -> None:
    result = compressed(PROMPT, rate=0.4, protect=["seven to two"])
    assert any("seven to two" in text for text in result.context)


def test_the_sentence_filter_drops_whole_sentences_but_not_the_first_and_last() -> None:
    kept = SentenceFilter(budget="*1", first=1, last=1)
    draft = drafter(rate=0.3, sentence_filter=kept).draft(Prompt(context=[PROSE]))
    list(Engine(BigramScorer()).run([filter_sentences(draft, kept)]))
    ((first, *_, last),) = [draft.context[0].kept_spans()]
    edges = {*sentence_edges(PROSE).tolist(), len(PROSE)}
    assert (first[0], last[1]) == (0, len(PROSE))
    assert {edge for span in draft.context[0].kept_spans() for edge in span} <= edges
    assert 0 < draft.context[0].keep.mean() < 0.8


def test_many_filtered_sentences_in_one_segment_do_not_spend_its_budget() -> None:
    """Units that the filter dropped cost nothing and are not chosen again."""
    own = drafter(rate=0.5, sentence_filter={"budget": "*1"}, iterative_size=400)
    draft = own.draft(Prompt(context=[PROSE * 3]))
    list(Engine(BigramScorer()).run([METHODS["llmlingua"].program(draft, own.config.own)]))
    part = draft.context[0]
    assert part.costs[part.keep].sum() >= 0.8 * draft.target_tokens
