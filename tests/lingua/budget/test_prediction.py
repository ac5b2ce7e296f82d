"""How well a compressed text predicts the original: the two ends, the way between, and which prompts are asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lingua.budget.draft import Drafter
from lingua.budget.fidelity import STRETCH, STRETCHES, drawn, prediction
from lingua.compressor import Compressor, compress_one
from lingua.config import CompressionConfig
from lingua.engine.engine import Engine
from lingua.prompt import CompressedPrompt, Prompt
from tests.lingua.echo import EchoScorer, drafter
from tests.models import save
from tests.texts import PROSE

WORDS = " ".join(f"word{number}" for number in range(400))


def asked(
    prompt: Prompt, scorer: EchoScorer | None = None, own: Drafter | None = None, **settings: object
) -> CompressedPrompt:
    """The outcome of a prompt that is in the sample."""
    own = own or drafter(**{"method": "llmlingua", **settings})
    (result,) = Engine(scorer or EchoScorer()).run([compress_one(prompt, own, 1.0)])
    assert isinstance(result, CompressedPrompt)
    return result


def predicted(prompt: Prompt, result: CompressedPrompt) -> float | None:
    """What the program says of a result that was made elsewhere."""
    (share,) = Engine(EchoScorer()).run([prediction(drafter(rate=0.5).draft(prompt), result)])
    return share  # type: ignore[return-value]


def test_all_of_a_text_predicts_all_of_it_and_nothing_predicts_nothing() -> None:
    prompt = Prompt(context=[PROSE])
    some = asked(prompt, rate=0.5)
    spans = replace(some, kept_spans=(((0, len(PROSE)),),)), replace(some, kept_spans=((),))
    assert predicted(prompt, spans[0]) == 1.0
    assert predicted(prompt, spans[1]) == 0.0


def test_more_kept_text_predicts_more() -> None:
    shares = [asked(Prompt(context=[PROSE]), rate=rate).predicted for rate in (0.1, 0.3, 0.6, 0.9)]
    assert None not in shares
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert shares[0] < shares[-1] <= 1.0  # type: ignore[operator]


def test_a_long_text_costs_no_more_than_a_few_stretches() -> None:
    def cost(text: str) -> int:
        with_it, without = EchoScorer(), EchoScorer()
        asked(Prompt(context=[text]), with_it, rate=0.5, method="selective")
        own = drafter(rate=0.5, method="selective")
        list(Engine(without).run([compress_one(Prompt(context=[text]), own)]))
        return with_it.tokens - without.tokens

    assert 0 < cost(PROSE) < cost(WORDS * 8) <= 3 * STRETCH * STRETCHES


def test_dropped_documents_count_against_it() -> None:
    prompt = Prompt(context=[PROSE, PROSE.upper()])
    both = asked(prompt, rate=0.9)
    one = replace(both, kept_spans=(both.kept_spans[0], ()))
    first, second = predicted(prompt, both), predicted(prompt, one)
    assert first is not None
    assert second is not None
    assert second < first


def test_what_passed_through_and_methods_without_such_a_model_are_not_asked() -> None:
    assert asked(Prompt(context=[PROSE]), rate=1.0).predicted is None
    for method in ("evidence", "rarity", "random", "truncate", "lead"):
        assert asked(Prompt(context=[PROSE]), rate=0.5, method=method).predicted is None


def test_a_relaxed_result_is_asked_about_what_it_kept_at_last() -> None:
    plain, eased = (asked(Prompt(context=[PROSE]), rate=0.2, min_fidelity=least) for least in (None, 0.7))
    assert eased.status == "relaxed"
    assert plain.predicted is not None
    assert eased.predicted is not None
    assert eased.predicted > plain.predicted


def test_the_sample_is_drawn_by_content_and_of_about_the_share_that_is_asked() -> None:
    prompts = [Prompt(context=[f"document {number}"]) for number in range(4000)]
    tenth = [prompt for prompt in prompts if drawn(prompt, 0.1)]
    assert tenth == [prompt for prompt in prompts if drawn(prompt, 0.1)]
    assert 320 < len(tenth) < 480
    assert set(map(id, tenth)) <= {id(prompt) for prompt in prompts if drawn(prompt, 0.2)}
    assert all(drawn(prompt, 1.0) for prompt in prompts)
    assert not any(drawn(prompt, 0.0) for prompt in prompts)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_real_model_whose_window_is_small_is_asked_too(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = save(tmp_path_factory.mktemp("model"))
    settings = CompressionConfig(method="llmlingua", rate=0.5)
    compressor = Compressor(str(folder), settings, device="cpu", dtype="float32", fidelity_sample=share)
    found = compressor.compress([Prompt(context=[PROSE, "one"]), Prompt(context=["", "x"]), Prompt()])
    assert all(isinstance(one, CompressedPrompt) for one in found)
    first = found[0]
    assert isinstance(first, CompressedPrompt)
    assert first.predicted is None if share == 0 else 0.0 <= (first.predicted or 0.0) <= 1.0
    again = compressor.using(settings).compress([Prompt(context=[PROSE, "one"])])
    assert again == found[:1]
