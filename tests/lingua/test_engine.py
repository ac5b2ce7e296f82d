"""The engine answers every program in order, whatever the batches, the window and the memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.engine import Engine
from lingua.errors import ModelError, PromptError
from lingua.prompt import Prompt, Rejected
from lingua.score import Answers, Context, OutOfMemoryError, Program, Row, Score, Surprisal
from tests.fakes_engine import BigramScorer, bigram, drafter, outcomes
from tests.texts import NASTY, PROSE

Asked = list[tuple[list[int], list[int]]]
requests = st.lists(
    st.tuples(st.lists(st.integers(1, 99), max_size=6), st.lists(st.integers(1, 99), max_size=9)), max_size=4
)


def program(asked: Asked) -> Program[list[Surprisal]]:
    context, answers = Context((0,)), list[Surprisal]()
    for commit, probe in asked:
        answers += yield [Score(context, probe, commit)]
    return answers


def expected(asked: Asked) -> list[Surprisal]:
    read = [0]
    answers = []
    for commit, probe in asked:
        read += commit
        answers.append(bigram([*read, *probe])[len(read) :])
    return answers


@given(st.lists(requests, max_size=12), st.integers(1, 12), st.integers(1, 5))
@settings(deadline=None)
def test_every_program_gets_its_own_answers_in_order(programs: list[Asked], batch: int, alive: int) -> None:
    engine: Engine[list[Surprisal]] = Engine(BigramScorer(batch_tokens=batch), max_programs=alive)
    results = list(engine.run(program(asked) for asked in programs))
    assert len(results) == len(programs)
    for asked, answers in zip(programs, results, strict=True):
        assert not isinstance(answers, PromptError)
        for one, other in zip(answers, expected(asked), strict=True):
            np.testing.assert_array_equal(one, other)


class LateScorer(BigramScorer):
    """Begins up to `ahead` batches more before it is asked for answers, which it works out from the rows only then.

    log     ("start" or "finish", number of the batch)
    late    batches that run out of memory when they are asked for their answers
    """

    def __init__(self, ahead: int, late: Sequence[int] = (), **others: int) -> None:
        super().__init__(**others)
        self.ahead, self.late = ahead, late
        self.log: list[tuple[str, int]] = []

    def start(self, rows: Sequence[Row]) -> Answers:
        if sum(len(row.probe) for row in rows) > self.memory:
            raise OutOfMemoryError("at once")
        number = sum(event == "start" for event, _ in self.log)
        self.log.append(("start", number))
        return lambda: self._finish(number, rows)

    def _finish(self, number: int, rows: Sequence[Row]) -> list[Surprisal]:
        self.log.append(("finish", number))
        if number in self.late:
            raise OutOfMemoryError("late")
        return self.score(rows)

    @property
    def under_way(self) -> list[int]:
        """How many batches there were after each event."""
        return np.cumsum([1 if event == "start" else -1 for event, _ in self.log]).tolist()  # type: ignore[no-any-return]


@given(st.lists(requests, max_size=12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 9))
@settings(deadline=None)
def test_batches_under_way_together_change_no_answer(programs: list[Asked], batch: int, ahead: int, late: int) -> None:
    scorer = LateScorer(ahead, [late], batch_tokens=batch << 3, window=24)
    results = list(Engine(scorer).run(program(asked) for asked in programs))
    for asked, answers in zip(programs, results, strict=True):
        for one, other in zip(answers, expected(asked), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(one, other)
    assert not scorer.log or (max(scorer.under_way) <= ahead + 1 and scorer.under_way[-1] == 0)


def test_the_next_batch_is_begun_before_programs_are_resumed_with_the_answers_of_the_one_before() -> None:
    scorer = LateScorer(1, batch_tokens=40)
    steps: Asked = [([], [number] * 10) for number in range(1, 4)]
    list(Engine(scorer).run(program([([9 + first], [1] * 10), *steps]) for first in range(8)))
    assert scorer.log[:3] == [("start", 0), ("start", 1), ("finish", 0)]
    assert [number for event, number in scorer.log if event == "finish"] == list(range(len(scorer.log) // 2))
    assert min(scorer.under_way[1:-2]) >= 1


def test_a_first_batch_leaves_half_of_the_work_to_a_second_one() -> None:
    scorer = LateScorer(1, batch_tokens=100)
    list(Engine(scorer).run(program([([first], [7] * 10)]) for first in range(1, 9)))
    assert scorer.log[:2] == [("start", 0), ("start", 1)]


def test_a_probe_of_several_pieces_is_never_under_way_twice() -> None:
    scorer = LateScorer(2, batch_tokens=8, window=64)
    asked: Asked = [([1, 2], list(range(1, 40))), ([3], list(range(2, 30)))]
    (answers,) = Engine(scorer).run([program(asked)])
    for one, other in zip(answers, expected(asked), strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(one, other)
    assert max(scorer.under_way) == 1


@pytest.mark.parametrize("ahead", [1, 2])
def test_memory_that_runs_out_while_a_batch_is_under_way_halves_the_batches_and_loses_nothing(ahead: int) -> None:
    scorer = LateScorer(ahead, late=[1], batch_tokens=400, memory=100)
    asked = [[([first], [5, first] * 30), ([2], [first] * 20)] for first in range(1, 12)]
    results = list(Engine(scorer).run(program(one) for one in asked))  # type: ignore[arg-type]
    for one, answers in zip(asked, results, strict=True):
        for found, wanted in zip(answers, expected(one), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(found, wanted)
    assert max(scorer.batches) <= 100
    assert scorer.batch_tokens == 400


def test_a_device_that_holds_nothing_is_an_error_with_batches_under_way_too() -> None:
    with pytest.raises(ModelError, match="too small"):
        list(Engine(LateScorer(1, memory=0)).run(program([([], [n, 2, 3])]) for n in range(5)))


class TripleScorer(BigramScorer):
    """Three numbers for a probe of any length."""

    def score(self, rows: Sequence[Row]) -> list[Surprisal]:
        return [np.full(3, one[-1], np.float32) for one in super().score(rows)]


def test_answers_of_another_length_than_the_probe_are_remembered_too() -> None:
    engine: Engine[list[Surprisal]] = Engine(scorer := TripleScorer())
    asked: Asked = [([], [1, 2, 3, 4, 5]), ([7], [6])]
    first, second = (answers for _ in range(2) for answers in engine.run([program(asked)]))
    np.testing.assert_array_equal(first, second)
    assert np.shape(first) == (2, 3)
    assert len(scorer.batches) == 2


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    scorer = BigramScorer(batch_tokens=4_096, memory=100)
    asked: Asked = [([1, 2], list(range(1, 300)))] * 3
    results = list(Engine(scorer).run([program(asked)]))
    for one, other in zip(results[0], expected(asked), strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(one, other)
    assert max(scorer.batches) <= 100
    assert scorer.batch_tokens == 4_096


def test_a_device_that_holds_not_even_one_token_is_an_error() -> None:
    with pytest.raises(ModelError, match="too small"):
        list(Engine(BigramScorer(memory=0)).run([program([([], [1, 2, 3])])]))


def test_no_row_is_longer_than_the_window() -> None:
    scorer = BigramScorer(window=32)
    outcomes([Prompt(PROSE, [PROSE] * 4, PROSE)], drafter(rate=0.3, instruction_rate=0.5, iterative_size=50), scorer)
    assert scorer.longest <= 32


def test_a_program_that_fails_leaves_its_neighbours_alone() -> None:
    def failing() -> Program[list[Surprisal]]:
        yield [Score(Context(), [1])]
        raise PromptError("broken", "this one")

    asked: Asked = [([], [4, 5])]
    first, second, third = Engine(BigramScorer()).run([program(asked), failing(), program(asked)])
    assert isinstance(second, PromptError)
    assert not isinstance(first, PromptError)
    assert not isinstance(third, PromptError)


def test_programs_are_pulled_as_room_allows() -> None:
    pulled = []

    def source():  # type: ignore[no-untyped-def]
        for number in range(50):
            pulled.append(number)
            yield program([([], [number + 1])])

    results = Engine(BigramScorer(), max_programs=4).run(source())
    next(results)
    assert len(pulled) <= 6


def test_outcomes_match_prompts_in_number_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingua.units._PATTERN_SECONDS", 0.02)
    slow = "a" * 3_000 + "!"
    texts = [*NASTY.values(), slow, PROSE, *NASTY.values()]
    results = outcomes([Prompt(context=[text]) for text in texts], drafter(rate=0.5, protect=[r"(a|aa)+$"]))
    assert len(results) == len(texts)
    assert [index for index, one in enumerate(results) if isinstance(one, Rejected)] == [len(NASTY)]
    for text, one in zip(texts, results, strict=True):
        if not isinstance(one, Rejected):
            assert one.origin_tokens == drafter().target.count(text)


def test_no_prompts_give_no_outcomes() -> None:
    assert outcomes([], drafter()) == []
