"""The budget controller's shares add up to the target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.budget.selection import optional_rate, shares
from lingua.methods.llmlingua import coarse_choice
from lingua.prompt import Prompt
from lingua.shared import ContextBudget
from tests.fakes_engine import drafter
from tests.texts import PROSE

PROMPT = Prompt("Answer the question from the notes below.", [PROSE, PROSE], "How did they vote in the end?")


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_shares_add_up_to_the_room(rate: float) -> None:
    draft = drafter(rate=rate, instruction_rate=0.85, question_rate=0.9).draft(PROMPT)
    found = shares(draft)
    assert found.instruction + found.demonstrations + found.question == pytest.approx(draft.room)
    assert found.instruction == pytest.approx(0.85 * draft.instruction.cost)


def test_what_the_demonstrations_cannot_use_goes_to_instruction_and_question() -> None:
    draft = drafter(rate=0.9, instruction_rate=0.1, question_rate=0.1).draft(Prompt(PROSE, ["short"], PROSE))
    found = shares(draft)
    assert found.demonstrations == draft.context[0].cost
    assert found.instruction == pytest.approx(found.question)
    assert found.instruction > 0.7 * draft.instruction.cost


def test_a_target_below_what_the_ends_ask_for_leaves_the_demonstrations_nothing() -> None:
    found = shares(drafter(target_token=4).draft(PROMPT))
    assert found.demonstrations == 0


@given(st.lists(st.integers(0, 40), max_size=8), st.floats(0, 100), st.sets(st.integers(0, 7)), st.randoms())
@settings(deadline=None)
def test_the_coarse_choice_can_use_up_the_final_budget(
    costs: list[int], final: float, required: set[int], random
) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(costs)))
    random.shuffle(order)
    required &= set(order)
    chosen = coarse_choice(costs, order, required, (final, ContextBudget.parse("*2")))
    assert chosen == sorted(set(chosen))
    assert required <= set(chosen)
    assert sum(costs[index] for index in chosen) >= min(final, sum(costs))


@pytest.mark.parametrize(("budget", "rate"), [(-5, 0), (0, 0), (10_000, 1)])
def test_a_rate_is_a_share(budget: float, rate: float) -> None:
    draft = drafter().draft(PROMPT)
    assert optional_rate(draft.context, budget) == rate
