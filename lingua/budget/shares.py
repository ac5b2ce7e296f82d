"""How many tokens each part of a prompt may keep: formulas 2 and 3 of arXiv 2310.05736, section 4.1.

Taken literally the formulas do not add up: (6) thins demonstrations that the coarse step has thinned already, and (3)
hands out coarse tokens as if they were final. Here the budget is a promise: what instruction, chosen demonstrations and
question may keep adds up to the target. What the demonstrations cannot use goes to instruction and question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lingua.budget.draft import Draft, PromptPart
from lingua.shared import ContextBudget

RATE_STEPS = 64
"""Of a shared rate's binary fraction: the step is 1.6% to 3.1% of the rate."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Final target tokens of the three components; `demonstrations` is shared by all chosen ones."""

    instruction: float
    demonstrations: float
    question: float


def shares(draft: Draft) -> Shares:
    """Split the target between the components.

    (2) gives the demonstrations what instruction and question leave at their own rates; (3) returns what exceeds the
    chosen demonstrations to instruction and question, in proportion to their lengths and up to all of each.
    """
    config = draft.config
    instruction = draft.instruction.at_rate(config.instruction_rate)
    question = draft.question.at_rate(config.question_rate)
    chosen = [draft.context[index] for index in draft.chosen]
    own = sum(part.at_rate(part.rate) for part in chosen if part.rate is not None)
    demonstrations = max(0.0, draft.room - instruction - question - own)
    unused = demonstrations - sum(part.cost for part in chosen if part.rate is None)
    if unused > 0:
        lengths = max(1, draft.instruction.cost + draft.question.cost)
        instruction = min(draft.instruction.cost, instruction + unused * draft.instruction.cost / lengths)
        question = min(draft.question.cost, question + unused * draft.question.cost / lengths)
        demonstrations -= unused
    return Shares(instruction, demonstrations, question)


def optional_rate(parts: list[PromptPart], budget: float) -> float:
    """The share of their optional tokens that `parts` may keep, once what must be kept is paid for; in [0, 1]."""
    must = sum(part.must_cost for part in parts)
    optional = sum(part.cost for part in parts) - must
    return min(1.0, max(0.0, (budget - must) / optional)) if optional else 1.0


def stepped(rate: float) -> float:
    """`rate` down to the nearest step: prompts that differ a little in length then ask the model the same questions."""
    fraction, exponent = math.frexp(rate)
    return math.ldexp(math.floor(fraction * RATE_STEPS) / RATE_STEPS, exponent)


def coarse_choice(
    costs: list[int], order: list[int], required: set[int], budgets: tuple[float, ContextBudget]
) -> list[int]:
    """Algorithm 1: take strings in `order` until the next would exceed the coarse budget; their indices, ascending.

    costs      target tokens of every string
    order      indices, best first
    required   indices taken whatever they cost, before all others
    budgets    the final budget, and what the coarse step may keep beyond it

    Goes on as long as what is taken could not use up the final budget, so that it can be met.
    """
    final, coarse = budgets
    limit = coarse.apply(final)
    taken = sorted(required)
    total = sum(costs[index] for index in taken)
    for index in order:
        if index in required:
            continue
        if total >= final and total + costs[index] > limit:
            break
        taken.append(index)
        total += costs[index]
    return sorted(taken)
