"""What is remembered: bounded, read-only, and never another text's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lingua.engine import Engine
from lingua.memory import Memory, digest_of
from lingua.score import Context, Program, Score
from tests.lingua.echo import EchoScorer


def test_it_forgets_what_was_used_least_recently() -> None:
    memory = Memory(values=4)
    memory.put("a", np.ones(2, np.float32))
    memory.put("b", np.ones(2, np.float32))
    assert memory.get("a") is not None
    memory.put("c", np.ones(2, np.float32))
    assert memory.get("b") is None
    assert memory.get("a") is not None
    assert memory.get("c") is not None


def test_what_is_larger_than_all_its_room_is_not_kept() -> None:
    memory = Memory(values=4)
    memory.put("large", np.ones(5, np.float32))
    assert len(memory) == 0
    memory.put("small", np.ones(4, np.float32))
    assert len(memory) == 1


def test_what_is_shared_cannot_be_changed() -> None:
    memory, values = Memory(), np.ones(2, np.float32)
    memory.put("a", values)
    values[0] = 7
    shared = memory.get("a")
    assert shared is not None
    assert shared.tolist() == [1, 1]
    with pytest.raises(ValueError, match="read-only"):
        shared[0] = 2


def test_different_ids_have_different_keys() -> None:
    assert len({digest_of(ids) for ids in ([], [0], [0, 0], [256], [1], [1, 0])}) == 6


def ask(*scores: Score) -> Program[Any]:
    return (yield list(scores))


def test_programs_that_ask_the_same_at_once_share_one_row() -> None:
    scorer = EchoScorer()
    engine: Engine[Any] = Engine(scorer)
    programs = [(ask(Score(Context((0,)), [5, 6, 7]), Score(Context((0,)), [5, 6, 7])), 3) for _ in range(4)]
    found = list(engine.run(programs))
    assert scorer.rows == 1
    assert all(np.array_equal(answer, found[0][0]) for answers in found for answer in answers)


def test_what_was_read_before_makes_another_question() -> None:
    scorer = EchoScorer()
    engine: Engine[Any] = Engine(scorer)
    alone, after, headless = Score(Context((0,)), [5, 6]), Score(Context((0,)), [5, 6], [5]), Score(Context(), [5, 6])
    ((first, second, third),) = engine.run([(ask(alone, after, headless), 3)])
    assert scorer.rows == 3
    assert first.tolist() != second.tolist()
    assert first.tolist() == third.tolist()


def test_a_scorer_that_fails_leaves_nothing_behind_for_the_next_run() -> None:
    class Failing(EchoScorer):
        def score(self, rows: Any) -> Any:
            raise RuntimeError("lost")

    memory = Memory()
    failing: Engine[Any] = Engine(Failing(), memory=memory)
    with pytest.raises(RuntimeError, match="lost"):
        list(failing.run([(ask(Score(Context(), [5, 6])), 2)]))
    engine: Engine[Any] = Engine(EchoScorer(), memory=memory)
    (answers,) = engine.run([(ask(Score(Context(), [5, 6])), 2)])
    assert len(answers[0]) == 2
