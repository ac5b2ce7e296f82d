"""LongLLMLingua over a scorer that echoes: ranking, contrast, rates by rank, order, and the laws of every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.compressor import compress_one
from lingua.engine.engine import Engine
from lingua.engine.score import Program, ScoreCache
from lingua.methods.longllmlingua import arranged, compress_by_contrast, document_rates
from lingua.methods.ranking import Computed
from lingua.prompt import CompressedPrompt, Prompt
from tests.lingua.echo import NASTY, EchoScorer, compress, draft_of, drafter

DOCUMENTS = (
    "The price of coal and of steel was settled by the committee that met in the old town at noon.",
    "A long train left the station at noon, and nobody asked for the price of the coal it burned.",
    "The name of the river that runs through the capital of France is the Seine, a long and slow one.",
    "Jump, quick brown fox! Vexed zebras and lazy dogs watched it from the other side of the hedge.",
)
PROMPT = Prompt("Answer the question.", DOCUMENTS, "What is the name of the river?")


def one(prompt: Prompt = PROMPT, **settings: Any) -> CompressedPrompt:
    (outcome,) = compress([prompt], method="longllmlingua", **settings)
    assert isinstance(outcome, CompressedPrompt)
    return outcome


def test_the_document_that_answers_is_kept_and_stands_first() -> None:
    outcome = one(rate=0.35, context_budget="*1", rank_method="bm25")
    assert outcome.kept_context[0] == 2
    assert "river" in outcome.context[0]


@pytest.mark.parametrize(
    ("order", "expected"),
    [("original", [0, 1, 2, 3, 4]), ("sort", [3, 0, 4, 1, 2]), ("two_stage", [3, 4, 2, 1, 0])],
)
def test_documents_are_arranged_as_asked(order: Any, expected: list[int]) -> None:
    assert arranged([3, 0, 4, 1, 2], order) == expected


def test_the_order_of_the_output_is_the_order_asked_for() -> None:
    outcome = one(rate=0.8, reorder_context="original")
    assert list(outcome.kept_context) == sorted(outcome.kept_context)
    by_rank = one(rate=0.8, rank_method="bm25", reorder_context="sort").kept_context
    assert by_rank[0] == 2


@settings(max_examples=40)
@given(
    tilt=st.floats(0, 1),
    rate=st.floats(0.15, 0.9),
    ranked=st.permutations(range(4)),
    forced=st.sampled_from([(), ("the",), ("o", "a")]),
)
def test_rates_fall_with_rank_and_use_up_the_budget(
    tilt: float, rate: float, ranked: list[int], forced: tuple[str, ...]
) -> None:
    from lingua.budget.selection import shares

    asked = {"dynamic_context_compression_ratio": tilt, "force_tokens": forced}
    draft = draft_of(PROMPT, rate=rate, method="longllmlingua", **asked)
    rates = list(document_rates(draft, ranked, tilt).values())
    parts = [draft.context[index] for index in ranked]
    used = sum(part.must_cost + r * (part.cost - part.must_cost) for part, r in zip(parts, rates, strict=True))
    must, total = sum(part.must_cost for part in parts), sum(part.cost for part in parts)
    assert used == pytest.approx(min(total, max(must, shares(draft).demonstrations)), abs=1e-3)
    assert all(0 <= r <= 1 for r in rates)
    assert all(np.diff(rates) <= 1e-9)


def test_rates_are_linear_in_rank_where_nothing_is_clipped() -> None:
    draft = draft_of(PROMPT, rate=0.6, method="longllmlingua", dynamic_context_compression_ratio=0.2)
    rates = list(document_rates(draft, [2, 1, 0, 3], 0.2).values())
    assert np.diff(rates) == pytest.approx([-2 * 0.2 / 4] * 3, abs=1e-6)


def test_evidence_is_what_the_question_takes_off_the_surprisal() -> None:
    draft = draft_of(Prompt(context=DOCUMENTS[:3], question="the river?"), rate=0.5)
    run(compress_by_contrast(draft, {id(part): 0.5 for part in draft.context}, "sum"))
    asked = set(draft.ids("the river?")) | set(draft.ids("\n\n"))
    for part in draft.context:
        seen = {0}
        for token, evidence in zip(part.ids.tolist(), part.token_scores, strict=True):
            news = 4.0 + token % 97 / 100 if token in asked and token not in seen else 0.0
            assert evidence == pytest.approx(news, abs=1e-5)
            seen.add(token)


def test_what_the_question_asks_for_survives_in_a_long_document() -> None:
    text = " ".join(f"coal{n} steel{n}" for n in range(60)) + " river"
    outcome = one(Prompt(context=(text,), question="Which river?"), rate=0.1)
    assert "river" in outcome.context[0]


def test_plain_surprisal_is_used_where_no_comparison_is_asked_for() -> None:
    compared, plain = one(rate=0.4), one(rate=0.4, condition_compare=False)
    assert compared.kept_context == plain.kept_context
    assert compared.text != plain.text


def test_without_a_question_the_most_surprising_documents_are_kept() -> None:
    repeated = "the committee and the committee and the committee and the committee"
    outcome = one(Prompt(context=(repeated, DOCUMENTS[3])), rate=0.4, context_budget="*1")
    assert outcome.kept_context == (1,)


def test_a_documents_own_surprisal_is_computed_once_for_all_questions() -> None:
    memory, asked = ScoreCache(), {"method": "longllmlingua", "rank_method": "bm25", "context_budget": "*9"}
    questions = [Prompt(context=DOCUMENTS, question=f"{word}?") for word in ("river", "train", "coal", "fox")]
    scorer = EchoScorer()
    together = compress(questions, scorer, memory, **asked)
    separately = EchoScorer()
    alone = [compress([question], separately, **asked)[0] for question in questions]
    assert together == alone
    assert separately.rows - scorer.rows == 3 * len(DOCUMENTS)
    rows = scorer.rows
    compress(questions, scorer, memory, **asked)
    assert scorer.rows == rows


def test_a_long_documents_own_surprisal_is_remembered_too() -> None:
    text = " ".join(DOCUMENTS * 40)
    scorer, memory = EchoScorer(window=256), ScoreCache()
    first = compress([Prompt(context=(text,), question="river?")], scorer, memory, method="longllmlingua")
    tokens = scorer.tokens
    assert compress([Prompt(context=(text,), question="river?")], scorer, memory, method="longllmlingua") == first
    assert scorer.tokens - tokens <= tokens / 2


def test_pieces_of_a_structure_are_neither_dropped_nor_moved() -> None:
    prompt = Prompt(context=DOCUMENTS, question="river?", separator="", context_rates=(0.5, 1.0, None, 0.2))
    outcome = one(prompt, rate=0.5)
    assert list(outcome.kept_context) == sorted(outcome.kept_context)
    assert outcome.context[outcome.kept_context.index(1)] == DOCUMENTS[1]


def test_forced_strings_are_never_dropped() -> None:
    assert 3 in one(rate=0.3, context_budget="*1", force_context_ids=(3,)).kept_context


def test_a_ranker_of_ones_own_decides() -> None:
    ranker = Computed(lambda question, documents: np.arange(len(documents), dtype=np.float32))
    own = drafter(ranker, method="longllmlingua", rate=0.6)
    assert run(compress_one(PROMPT, own)).kept_context[0] == 3


@pytest.mark.parametrize("compare", [True, False])
@pytest.mark.parametrize("rank_method", ["longllmlingua", "longllmlingua_before", "llmlingua", "bm25"])
def test_any_text_is_compressed_within_its_budget(rank_method: str, compare: bool) -> None:
    prompts = [Prompt("Ask.", (*NASTY, *DOCUMENTS), text) for text in (*NASTY, "river")]
    prompts += [Prompt(context=(text,), question="river?") for text in NASTY]
    asked = {"method": "longllmlingua", "rank_method": rank_method, "condition_compare": compare, "rate": 0.5}
    for prompt, outcome in zip(prompts, compress(prompts, **asked), strict=True):
        assert isinstance(outcome, CompressedPrompt)
        assert outcome.compressed_tokens <= outcome.target_tokens or outcome.status == "over_budget"
        assert outcome.text.count("\ufffd") == prompt.text.count("\ufffd")


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=4), st.text(max_size=10))
def test_at_rate_one_nothing_changes(context: list[str], question: str) -> None:
    outcome = one(Prompt("Do.", context, question), rate=1.0)
    assert outcome.text == Prompt("Do.", context, question).text
    assert outcome.context == tuple(context)


@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), max_size=5), st.text(max_size=12), st.floats(0.05, 0.95))
def test_what_is_kept_is_cut_out_of_the_original(context: list[str], question: str, rate: float) -> None:
    outcome = one(Prompt("", context, question), rate=rate)
    for index, text in zip(outcome.kept_context, outcome.context, strict=True):
        assert "".join(context[index][a:b] for a, b in outcome.kept_spans[index]) == text


def run(program: Program[Any]) -> Any:
    engine: Engine[Any] = Engine(EchoScorer())
    (result,) = engine.run([program])
    return result
