"""What is remembered: bounded, read-only, and never another text's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lingua.engine.engine import Engine
from lingua.engine.score import (
    ENTRY,
    Answer,
    Arriving,
    BatchRow,
    Context,
    Digest,
    Program,
    Score,
    ScoreCache,
    digest_of,
)
from lingua.models.causal import PackedScorer
from lingua.models.trial import causal_scorer
from tests.lingua.echo import EchoScorer
from tests.models import tiny


def test_it_forgets_what_was_used_least_recently() -> None:
    memory = ScoreCache(values=4 + 2 * ENTRY)
    memory.put("a", np.ones(2, np.float32))
    memory.put("b", np.ones(2, np.float32))
    assert memory.get("a") is not None
    memory.put("c", np.ones(2, np.float32))
    assert memory.get("b") is None
    assert memory.get("a") is not None
    assert memory.get("c") is not None


def test_what_is_larger_than_all_its_room_is_not_kept() -> None:
    memory = ScoreCache(values=4 + ENTRY)
    memory.put("large", np.ones(5, np.float32))
    assert len(memory) == 0
    memory.put("small", np.ones(4, np.float32))
    assert len(memory) == 1


def test_what_is_shared_cannot_be_changed() -> None:
    memory, values = ScoreCache(), np.ones(2, np.float32)
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
    programs = [ask(Score(Context((0,)), [5, 6, 7]), Score(Context((0,)), [5, 6, 7])) for _ in range(4)]
    found = list(engine.run(programs))
    assert scorer.rows == 1
    assert all(np.array_equal(answer, found[0][0]) for answers in found for answer in answers)


def test_what_was_read_before_makes_another_question() -> None:
    scorer = EchoScorer()
    engine: Engine[Any] = Engine(scorer)
    alone, after, headless = Score(Context((0,)), [5, 6]), Score(Context((0,)), [5, 6], [5]), Score(Context(), [5, 6])
    ((first, second, third),) = engine.run([ask(alone, after, headless)])
    assert scorer.rows == 3
    assert first.tolist() != second.tolist()
    assert first.tolist() == third.tolist()


def test_a_scorer_that_fails_leaves_nothing_behind_for_the_next_run() -> None:
    class Failing(EchoScorer):
        def score(self, rows: Any) -> Any:
            raise RuntimeError("lost")

    memory = ScoreCache()
    failing: Engine[Any] = Engine(Failing(), cache=memory)
    with pytest.raises(RuntimeError, match="lost"):
        list(failing.run([ask(Score(Context(), [5, 6]))]))
    engine: Engine[Any] = Engine(EchoScorer(), cache=memory)
    (answers,) = engine.run([ask(Score(Context(), [5, 6]))])
    assert len(answers[0]) == 2


def test_a_running_digest_is_that_of_all_ids_at_once() -> None:
    digest = Digest([1, 2])
    digest.after([3])
    assert digest.after([4, 5]) == digest_of([1, 2, 3, 4, 5])


def test_contexts_that_read_the_same_have_the_same_key_however_they_came_to_it() -> None:
    one, other = Context((0,), [1, 2, 3]), Context((0,), [1])
    assert one.key() != other.key()
    other.ids.extend([2, 3])
    assert one.key() == other.key() == one.fork().key()
    assert Context((0,), [9, 9, 2, 3], begin=2).key() == Context((0,), [2, 3]).key()


def test_what_slid_out_of_the_window_is_no_part_of_the_key() -> None:
    slid = Context((0,), list(range(1, 20)))
    slid.key()
    slid.slide(5, 16)
    assert slid.key() == Context((0,), slid.visible(1)).key()


class Counting(PackedScorer):
    """Counts the tokens that it computes."""

    tokens = 0

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        self.tokens += sum(len(row.context) - self.cached(row.context) + len(row.probe) for row in rows)
        return super().start(rows)


@pytest.fixture
def scorer() -> Counting:
    model = tiny("llama")
    causal_scorer(model)
    return Counting(model)


def reading(last: int) -> Program[list[Answer]]:
    """Reads the same as all others, but for its last request."""
    context, answers = Context((0,)), list[Answer]()
    for step in range(4):
        answers += yield [Score(context, [10 * step + 3] * 9, [10 * step + 4] * 6 if step else ())]
    return answers + (yield [Score(context, [last, 7], [5])])


def test_programs_that_read_the_same_are_answered_by_one_and_go_on_from_its_keys_and_values(scorer: Counting) -> None:
    engine: Engine[list[Answer]] = Engine(scorer)
    (alone,) = engine.run([reading(100)])
    once, scorer.tokens = scorer.tokens, 0
    found = list(Engine(scorer).run(reading(100 + number) for number in range(20)))
    assert scorer.tokens == once + 19 * (2 + 1)
    for one, other in zip(found[0], alone, strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_programs_one_after_the_other_read_on_from_what_the_last_one_read(scorer: Counting) -> None:
    engine: Engine[list[Answer]] = Engine(scorer, max_programs=1)
    found = list(engine.run(reading(100 + number) for number in range(5)))
    plain = list(Engine(scorer, cache=ScoreCache(0)).run(reading(100 + number) for number in range(5)))
    for one, other in zip(found, plain, strict=True):
        for answer, expected in zip(one, other, strict=True):  # type: ignore[arg-type]
            np.testing.assert_allclose(answer, expected, atol=1e-4)
    scorer.tokens = 0
    list(engine.run([reading(200)]))
    assert scorer.tokens == 2 + 1


def test_a_memory_without_room_shares_nothing() -> None:
    scorer = EchoScorer()
    engine: Engine[Any] = Engine(scorer, cache=ScoreCache(0))
    list(engine.run([ask(Score(Context((0,)), [5, 6, 7])) for _ in range(4)]))
    assert scorer.rows == 4
