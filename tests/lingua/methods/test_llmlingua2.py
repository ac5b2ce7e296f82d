"""LLMLingua-2: windows tile the text, the most probable words of the whole prompt stay, the budget is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingua import CompressedPrompt, CompressionConfig, Compressor, ConfigError, Prompt
from lingua.budget.draft import PromptPart
from lingua.engine.score import Answer, Arriving, BatchRow
from lingua.methods.llmlingua2 import windows
from lingua.methods.ranking import bm25
from lingua.prompt import Outcome
from lingua.text.sentences import sentence_edges
from tests.lingua.models.encoders import ARCHITECTURES, LINES, STORY, save_encoder

Make = Callable[..., Compressor]
NASTY = (
    "",
    " \n\t ",
    "\0 nul \0",
    "emoji 👩‍👩‍👧‍👦 and 🇵🇹 flags",
    "狐狸跳过懒狗。今天天气很好，我们去公园散步。",
    "مرحبا بالعالم. كيف حالك اليوم؟",
    "a < b [CLS] <s> <|endoftext|> [SEP] </s> [MASK] <pad> [PAD]",
    "x" * 3_000,
    "Dr. No met Mr. Yes... at 3.14 p.m.? Yes!" * 20,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {name: save_encoder(root / name, name, LINES) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def make(folders: dict[str, Path]) -> Make:
    """A compressor on the tiny BERT, or another architecture, with these settings."""

    known: dict[tuple[str, str], Compressor] = {}

    def build(architecture: str = "bert", **chosen: Any) -> Compressor:
        config = CompressionConfig(**{"method": "llmlingua2"} | chosen)
        key = (architecture, config.digest())
        if key not in known:
            known[key] = Compressor(str(folders[architecture]), config, device="cpu", dtype="float32")
        return known[key]

    return build


def one(outcomes: list[Outcome]) -> CompressedPrompt:
    (outcome,) = outcomes
    assert isinstance(outcome, CompressedPrompt)
    return outcome


def compress(compressor: Compressor, *context: str, **parts: str) -> CompressedPrompt:
    return one(compressor.compress([Prompt(context=context, **parts)]))


def part_of(compressor: Compressor, text: str) -> PromptPart:
    return compressor._drafter.draft(Prompt(context=[text])).context[0]


def labels(compressor: Compressor, text: str) -> list[tuple[str, bool, float]]:
    ((words,),) = compressor.word_labels([Prompt(context=[text])])  # type: ignore[misc]
    return [(word.text, word.kept, word.score) for word in words]


# windows


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300), size=st.integers(1, 40))
def test_windows_tile_any_text_without_loss_or_doubling(make: Make, text: str, size: int) -> None:
    part = part_of(make(), text)
    tokens = [token for begin, end in windows(part, size) for token in range(begin, end)]
    assert tokens == list(range(len(part.encoding)))
    assert all(0 < end - begin <= size for begin, end in windows(part, size))


def test_windows_end_at_sentence_ends(make: Make) -> None:
    part = part_of(make(), STORY)
    begins = part.encoding.token_starts[[begin for begin, _ in windows(part, 62)]]
    assert len(begins) > 2
    assert set(begins.tolist()) <= set(sentence_edges(STORY).tolist())


def test_windows_within_a_long_sentence_end_at_words_and_within_a_long_word_anywhere(make: Make) -> None:
    words = part_of(make(), "bakery muffins " * 40)
    begins = words.encoding.token_starts[[begin for begin, _ in windows(words, 20)]]
    assert set(begins.tolist()) <= set(words.bounds.tolist())
    letters = part_of(make("modernbert"), "q" * 200)
    assert [end - begin for begin, end in windows(letters, 60)][:-1] == [60, 60, 60]


def test_a_window_never_exceeds_what_the_model_reads(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = make()
    sizes: list[int] = []
    start = compressor._scorer.start

    def watched(rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        sizes.extend(len(row.probe) for row in rows)
        return start(rows)

    monkeypatch.setattr(compressor._scorer, "start", watched)
    compress(compressor, STORY)
    assert max(sizes) <= 62
    assert sum(sizes) == len(part_of(compressor, STORY).encoding)


# budgets


@pytest.mark.parametrize("rate", [0.1, 0.33, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("target", ["model", "cl100k_base"])
def test_the_budget_is_met_in_the_target_tokenizer(make: Make, rate: float, target: str) -> None:
    result = compress(make(rate=rate, target_tokenizer=target), STORY, STORY[::-1], question="Who drives the van?")
    assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens
    assert result.question == "Who drives the van?"


def test_the_budget_is_global_over_all_windows_and_strings(make: Make) -> None:
    compressor = make(rate=0.5)
    (found,) = compressor.word_labels([Prompt(context=[STORY, STORY.upper(), "Bread and coins."])])
    words = [word for string in found for word in string]  # type: ignore[union-attr]
    ranked = sorted(words, key=lambda word: -word.score)
    prefix = sum(word.kept for word in words)
    assert sum(not word.kept for word in ranked[:prefix]) <= 2  # the last tokens of the target are filled by what fits


def test_each_string_with_a_rate_of_its_own_keeps_its_share(make: Make) -> None:
    prompt = Prompt(context=[STORY, STORY, STORY], context_rates=[1.0, 0.2, None], separator="")
    result = one(make(rate=0.5).compress([prompt]))
    sizes = [len(text) / len(STORY) for text in result.context]
    assert result.context[0] == STORY
    assert sizes[1] == pytest.approx(0.2, abs=0.1)
    assert sizes[2] == pytest.approx(0.5, abs=0.1)


def test_batched_equals_alone(make: Make) -> None:
    compressor = make(rate=0.4)
    prompts = [Prompt(context=[STORY[start : start + size]]) for start, size in ((0, 80), (50, 700), (300, 200))]
    assert compressor.compress(prompts) == [one(compressor.compress([prompt])) for prompt in prompts]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_text_is_kept_whole_at_rate_one_and_is_a_subsequence_below(
    make: Make, architecture: str, text: str
) -> None:
    assert compress(make(architecture, rate=1.0), text, "Bread.").text == Prompt(context=[text, "Bread."]).text
    result = compress(make(architecture, rate=0.5), text)
    assert result.compressed_tokens <= max(1, result.target_tokens) or result.status == "over_budget"
    assert result.text == "".join(text[start:end] for start, end in result.kept_spans[0])
    assert "\ufffd" not in result.text


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_spell_the_text_and_agree_with_the_result(make: Make, architecture: str) -> None:
    compressor = make(architecture, rate=0.5)
    found = labels(compressor, STORY)
    assert "".join(text for text, _, _ in found) == STORY
    kept = "".join(text for text, kept, _ in found if kept)
    assert kept.strip() == compress(compressor, STORY).text
    assert len({score for _, _, score in found}) > 50


def test_a_prompt_within_its_budget_is_labelled_all_kept_and_scored(make: Make) -> None:
    found = labels(make(target_token=10_000), STORY)
    assert all(kept for _, kept, _ in found)
    assert all(0 < score < 1 for _, _, score in found)


# words


@pytest.mark.parametrize(("aggregate", "expected"), [("mean", 0.01), ("first", 0.0), ("max", 0.02)])
def test_a_words_probability_is_the_mean_the_first_or_the_highest_of_its_tokens(
    make: Make, aggregate: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressor = make("modernbert", aggregate=aggregate)

    def rising(rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        return lambda: [np.arange(len(row.probe), dtype=np.float32) / 100 for row in rows]

    monkeypatch.setattr(compressor._scorer, "start", rising)
    assert np.diff(part_of(compressor, "qzx").starts).tolist() == [3]
    assert labels(compressor, "qzx")[0][2] == pytest.approx(expected, rel=1 / 256)


def test_force_tokens_and_digits_survive_the_hardest_compression(make: Make) -> None:
    result = compress(make(rate=0.15, force_tokens=["bread"], force_reserve_digit=True), STORY)
    for word in ("1998", "240", "14", "bread"):
        assert word in result.text


def test_repeats_of_a_forced_string_are_dropped_where_nothing_kept_parts_them(make: Make) -> None:
    text = "one two three. four five six. seven eight nine. ten eleven twelve." * 3
    result = compress(make(rate=0.3, force_tokens=["."]), text)
    assert ".." not in result.text.replace(" ", "")
    assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens


def test_repeats_of_a_forced_string_stay_in_a_text_that_needs_no_compression(make: Make) -> None:
    text = "What... is... it?"
    assert compress(make(rate=1.0, force_tokens=["."]), text).text == text


# threshold


@pytest.mark.parametrize("threshold", [0.2, 0.35, 0.45, 0.6])
def test_a_threshold_keeps_exactly_what_exceeds_it_whatever_the_length(make: Make, threshold: float) -> None:
    found = labels(make(keep_threshold=threshold), STORY)
    assert [kept for _, kept, _ in found] == [score > threshold for _, _, score in found]
    result = compress(make(keep_threshold=threshold), STORY)
    assert result.text == "".join(text for text, kept, _ in found if kept).strip()
    assert result.target_tokens == result.origin_tokens


def test_a_threshold_of_one_keeps_only_what_is_forced(make: Make) -> None:
    result = compress(make(keep_threshold=1.0, force_tokens=["Anna"]), STORY, instruction="Read.")
    assert result.text == "Read.\n\nAnna"
    assert result.status == "compressed"


def test_the_security_preset_is_a_threshold_of_one_half(make: Make) -> None:
    preset = CompressionConfig(preset="security")
    assert (preset.method, preset.own.threshold, preset.rate) == ("llmlingua2", 0.5, None)
    assert preset.digest() == CompressionConfig(method="llmlingua2", keep_threshold=0.5).digest()
    assert compress(make(preset="security"), STORY) == compress(make(keep_threshold=0.5), STORY)


def test_a_setting_beside_a_preset_prevails() -> None:
    config = CompressionConfig(preset="paper", rate=0.2, question_rate=1.0)
    assert (config.unit, config.instruction_rate, config.question_rate) == ("token", 0.85, 1.0)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"keep_threshold": 0.5}, "keep_threshold is read by method llmlingua2, not by evidence"),
        ({"method": "llmlingua2", "keep_threshold": 0.5, "rate": 0.5}, "rate and keep_threshold exclude each other"),
        ({"preset": "security", "context_budget": "*2"}, "context_budget needs a budget"),
        ({"method": "llmlingua2", "rank_method": "bm25"}, "rank_method is read only with context_budget"),
        ({"method": "llmlingua2", "context_budget": "*2", "rank_method": "longllmlingua"}, "longllmlingua:MODEL"),
        ({"preset": "security", "method": "selective"}, "method selective reads nothing of it"),
        ({"preset": "fast"}, "preset = 'fast'"),
        ({"preset": ["paper"]}, "preset = "),
    ],
)
def test_settings_that_do_not_go_together_are_named(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompressionConfig(**chosen)


# coarse step


def test_the_coarse_step_keeps_the_strings_of_highest_mean_probability(make: Make) -> None:
    strings = STORY.replace("\n", " ").split(". ")
    probabilities = make(target_token=10_000).word_labels([Prompt(context=strings)])[0]
    means = [np.mean([word.score for word in string]) for string in probabilities]  # type: ignore[union-attr]
    chosen = make(rate=0.3, context_budget="*1.2")
    result = compress(chosen, *strings)
    dropped = set(range(len(strings))) - set(result.kept_context)
    assert dropped
    assert max(means[index] for index in dropped) <= min(means[index] for index in result.kept_context)
    assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens


def test_the_coarse_step_keeps_forced_strings(make: Make) -> None:
    strings = STORY.replace("\n", " ").split(". ")
    coarse = {"rate": 0.3, "context_budget": "*1.2"}
    missing = min(set(range(len(strings))) - set(compress(make(**coarse), *strings).kept_context))
    assert missing in compress(make(**coarse, force_context_ids=[missing]), *strings).kept_context


def test_with_a_question_the_ranker_chooses_the_strings_and_the_encoder_reads_those_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    strings, question = STORY.replace("\n", " ").split(". "), "Who says that the best customers are the fishermen?"
    compressor = make(rate=0.3, context_budget="*1", rank_method="bm25")
    asked, scorer = list[int](), compressor._scorer
    score = scorer.start
    monkeypatch.setattr(scorer, "start", lambda rows: asked.extend(len(row.probe) for row in rows) or score(rows))
    result = compress(compressor, *strings, question=question)
    best = int(np.argmax(bm25(question, strings)))
    assert best in result.kept_context
    assert sum(asked) < 0.7 * compressor.count(" ".join(strings))
    assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens
    assert (
        compress(compressor, *strings).kept_context
        == compress(make(rate=0.3, context_budget="*1"), *strings).kept_context
    )  # without a question, mean probabilities choose
