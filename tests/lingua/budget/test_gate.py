"""The gate: what lost too much is compressed less, or not at all, and says so."""

from __future__ import annotations

import pytest

from lingua.config import CompressionConfig
from lingua.errors import ConfigError
from lingua.prompt import Prompt, Rejected
from lingua.structured.streams import stream, structure_of
from tests.fakes_engine import BigramScorer, compressed, drafter, outcomes
from tests.texts import NASTY, PROSE


def test_a_prompt_that_keeps_enough_is_not_touched_by_the_gate() -> None:
    plain = compressed(PROSE, rate=0.5)
    assert compressed(PROSE, rate=0.5, min_fidelity=plain.fidelity) == plain


@pytest.mark.parametrize("method", ["evidence", "llmlingua", "longllmlingua", "selective", "rarity", "truncate"])
def test_a_prompt_that_lost_too_much_is_compressed_less_and_says_so(method: str) -> None:
    plain = compressed(PROSE, rate=0.3, method=method)
    eased = compressed(PROSE, rate=0.3, method=method, min_fidelity=plain.fidelity + 0.05)
    assert (plain.status, eased.status) == ("compressed", "relaxed")
    assert eased.fidelity >= plain.fidelity + 0.05
    assert plain.target_tokens == eased.target_tokens < eased.compressed_tokens < eased.origin_tokens


def test_each_try_halves_what_is_cut() -> None:
    rates = {compressed(PROSE, rate=0.2, min_fidelity=least / 20).rate for least in range(1, 21)}
    assert sorted(rates) == pytest.approx([0.2, 0.6, 0.8, 0.9, 1.0], abs=0.02)


@pytest.mark.parametrize("text", [PROSE, *NASTY.values()], ids=["prose", *NASTY])
def test_what_nothing_else_helps_passes_through_whole(text: str) -> None:
    prompt = Prompt("Read.", [text, text[::-1]], "Who?")
    result = compressed(prompt, target_token=3, min_fidelity=1.0)
    assert result.fidelity == 1.0
    if result.compressed_tokens == result.origin_tokens:
        assert result.text == prompt.text


def test_the_gate_counts_over_a_number_of_tokens() -> None:
    result = compressed(PROSE, target_token=20, min_fidelity=0.5)
    assert (result.status, result.target_tokens) == ("relaxed", 20)
    assert result.compressed_tokens > 20


def test_other_prompts_are_not_affected() -> None:
    prompts = [Prompt(context=[text]) for text in (PROSE, PROSE[::-1], "few words", *NASTY.values())]
    gated = outcomes(prompts, drafter(rate=0.4, min_fidelity=0.6))
    assert gated == [outcomes([prompt], drafter(rate=0.4, min_fidelity=0.6))[0] for prompt in prompts]


class _Compressor:
    """Streams prompts through the engine, a scorer without a model behind it."""

    def __init__(self, **settings: object) -> None:
        self.drafter = drafter(**settings)

    def stream(self, prompts):  # type: ignore[no-untyped-def]
        yield from outcomes(prompts, self.drafter, BigramScorer())


def test_pieces_of_a_structure_are_eased_at_their_own_rates_and_dropped_ones_stay_dropped() -> None:
    value = {"id": "a-1", "text": PROSE, "note": PROSE[::-1], "gone": "Bern was here"}
    rules = {"text": 0.3, "note": 0.3, "gone": "drop"}

    def result(**settings: object):  # type: ignore[no-untyped-def]
        config = CompressionConfig(rate=0.3, json_rules=rules, **settings)
        own = _Compressor(rate=0.3, json_rules=rules, **settings)
        (found,) = stream(own, structure_of("json", config), [value])
        assert not isinstance(found, Rejected)
        return found

    plain, eased, whole = result(), result(min_fidelity=0.6), result(min_fidelity=1.0)
    assert (plain.outcome.status, eased.outcome.status, whole.outcome.status) == ("compressed", "relaxed", "relaxed")
    assert len(plain.value["text"]) < len(eased.value["text"]) < len(PROSE)
    assert len(plain.value["note"]) < len(eased.value["note"]) < len(PROSE)
    assert (whole.value["id"], whole.value["text"], whole.value["note"]) == ("a-1", PROSE, PROSE[::-1])
    assert "Bern" not in str(whole.value)


@pytest.mark.parametrize("value", [0, -0.5, 1.5, "much"])
def test_the_gate_is_a_share(value: object) -> None:
    with pytest.raises(ConfigError, match="min_fidelity"):
        CompressionConfig(min_fidelity=value)


def test_the_gate_decides_what_the_results_are() -> None:
    assert CompressionConfig(min_fidelity=0.5).digest() != CompressionConfig().digest()
