"""Reused keys and values are those of the uncut text: a plain forward with its mask and positions written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from lingua.engine.engine import Engine
from lingua.engine.score import Context, Program, Score, Scorer, Surprisal
from lingua.models.causal import PlainScorer
from lingua.models.sizing import Allowance
from lingua.models.trial import causal_scorer
from lingua.prompt import CompressedPrompt, Prompt
from tests.fakes_engine import drafter, outcomes
from tests.models import PACKED, WINDOW, tiny
from tests.texts import PROSE

SLIDING = ("qwen2 sliding", "mistral sliding", "gemma2 softcap", "gemma3 sliding")
PLAIN = [name for name in PACKED if name not in SLIDING]
TEXT = np.random.default_rng(5).integers(3, 500, 200).tolist()

Step = tuple[list[int], list[int], list[int]]
"""Ids committed before the probe, the probe, and which of its tokens stay."""
STEPS: list[Step] = [
    (TEXT[:3], TEXT[3:20], [0, 3, 4, 16]),
    ([], TEXT[20:31], []),
    ([], TEXT[31:40], [8]),
    (TEXT[40:42], TEXT[42:60], list(range(0, 18, 2))),
    ([], TEXT[60:70], [1, 2]),
    ([], TEXT[70:72], [0]),
]


def asked(steps: Sequence[Step], reuse: bool = True) -> Program[list[Surprisal]]:
    context, answers = Context((0,)), list[Surprisal]()
    kept, places = list[int](), list[int]()
    for commit, probe, keep in steps:
        answers += yield [Score(context, probe, [*kept, *commit], places if reuse else None)]
        kept, places = [probe[place] for place in keep], keep
    return answers


def answers_of(scorer: Scorer, steps: Sequence[Step], reuse: bool = True) -> list[Surprisal]:
    (found,) = Engine(scorer).run([asked(steps, reuse)])
    assert isinstance(found, list)
    return found


@dataclass
class ByHand:
    """Every token ever computed, its position and which of the others it sees; `context` are those still visible."""

    model: Any
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    seen: list[list[int]] = field(default_factory=list)
    context: list[int] = field(default_factory=list)
    next: int = 0

    def ask(self, commit: Sequence[int], probe: Sequence[int]) -> list[float]:
        """Surprisal of the probe. The context's last token is computed again: it predicts for the text as it stands."""
        if not commit:
            last = self.context.pop()
            self.context.append(self._add(self.ids[last], self.positions[last], self.context))
        for token in commit:
            self.context.append(self._add(token, self.next, self.context))
            self.next += 1
        line = list(self.context)
        for offset, token in enumerate(probe):
            line.append(self._add(token, self.next + offset, line))
        self.next += len(probe)
        self._probe = line[len(self.context) :]
        logits = torch.log_softmax(self._forward().double(), -1)
        before = line[len(self.context) - 1 : -1]
        return [-float(logits[place, token]) for place, token in zip(before, probe, strict=True)]

    def keep(self, places: Sequence[int]) -> None:
        self.context += [self._probe[place] for place in places]

    def _add(self, token: int, position: int, seen: list[int]) -> int:
        place = len(self.ids)
        self.ids.append(token)
        self.positions.append(position)
        self.seen.append([*seen, place])
        return place

    def _forward(self) -> torch.Tensor:
        size = len(self.ids)
        mask = torch.full((1, 1, size, size), torch.finfo(torch.float32).min)
        for place, seen in enumerate(self.seen):
            mask[0, 0, place, seen] = 0.0
        with torch.no_grad():
            return self.model(  # type: ignore[no-any-return]
                input_ids=torch.tensor([self.ids]),
                attention_mask=mask,
                position_ids=torch.tensor([self.positions]),
                use_cache=False,
            ).logits[0]


@pytest.mark.parametrize("name", PLAIN)
def test_reused_keys_give_the_numbers_of_a_forward_masked_by_hand(name: str) -> None:
    by_hand, expected = ByHand(tiny(name)), []
    for number, (commit, probe, keep) in enumerate(STEPS):
        expected.append(by_hand.ask(commit if number else [0, *commit], probe))
        by_hand.keep(keep)
    found = answers_of(causal_scorer(tiny(name)), STEPS)
    for answer, values in zip(found, expected, strict=True):
        np.testing.assert_allclose(answer, values, atol=1e-4)
    computed_again = answers_of(causal_scorer(tiny(name)), STEPS, reuse=False)
    assert max(np.abs(one - other).max() for one, other in zip(found, computed_again, strict=True)) > 0.1


@pytest.mark.parametrize("name", SLIDING)
def test_models_whose_layers_see_the_newest_tokens_only_compute_them_again(name: str) -> None:
    found, expected = (answers_of(causal_scorer(tiny(name)), STEPS, reuse) for reuse in (True, False))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_the_positions_run_out_the_kept_text_is_computed_anew() -> None:
    scorer, model = causal_scorer(tiny("llama")), tiny("llama")
    scorer.window = WINDOW
    steps: list[Step] = [([], TEXT[:40], [1, 5, 9]), ([], TEXT[40:80], [0, 39]), ([], TEXT[80:110], [])]
    found = answers_of(scorer, steps)
    kept = [TEXT[1], TEXT[5], TEXT[9], TEXT[40], TEXT[79]]
    (expected,) = Engine(PlainScorer(model)).run([asked([(kept, TEXT[80:110], [])])])
    np.testing.assert_allclose(found[-1], expected[0], atol=1e-4)  # type: ignore[index]


def test_programs_in_a_batch_reuse_what_they_reuse_alone() -> None:
    many = [STEPS[start:] for start in range(len(STEPS))]
    together = list(Engine(causal_scorer(tiny("llama"))).run(asked(steps) for steps in many))
    for steps, found in zip(many, together, strict=True):
        for one, other in zip(found, answers_of(causal_scorer(tiny("llama"), Allowance(13)), steps), strict=True):  # type: ignore[arg-type]
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_whole_prompts_are_compressed_to_the_same_length_with_fewer_tokens_computed() -> None:
    prompt = Prompt("Read.", [PROSE, PROSE[::-1]], "How did they vote?")
    results = []
    for reuse in (True, False):
        scorer = causal_scorer(tiny("llama"))
        scorer.window = 4_096
        results.append(outcomes([prompt], drafter(rate=0.5, iterative_size=20, reuse_keys=reuse), scorer)[0])
    for result in results:
        assert isinstance(result, CompressedPrompt)
        assert 0.95 * result.target_tokens <= result.compressed_tokens <= result.target_tokens
    assert results[0] != results[1]
