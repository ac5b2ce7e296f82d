"""The engine answers every program in order, whatever the batches, the window and the memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua.engine.engine import Engine
from lingua.engine.score import Answer, Arriving, BatchRow, Context, OutOfMemoryError, PoolFullError, Program, Score
from lingua.errors import ModelError, PromptError
from lingua.prompt import Prompt, Rejected
from tests.fakes_engine import BigramScorer, bigram, drafter, outcomes
from tests.texts import NASTY, PROSE

Asked = list[tuple[list[int], list[int]]]
requests = st.lists(
    st.tuples(st.lists(st.integers(1, 99), max_size=6), st.lists(st.integers(1, 99), max_size=9)), max_size=4
)


def program(asked: Asked) -> Program[list[Answer]]:
    context, answers = Context((0,)), list[Answer]()
    for commit, probe in asked:
        answers += yield [Score(context, probe, commit)]
    return answers


def expected(asked: Asked) -> list[Answer]:
    read = [0]
    answers = []
    for commit, probe in asked:
        read += commit
        answers.append(bigram([*read, *probe])[len(read) :])
    return answers


@given(st.lists(requests, max_size=12), st.integers(1, 12), st.integers(1, 5))
@settings(deadline=None)
def test_every_program_gets_its_own_answers_in_order(programs: list[Asked], batch: int, alive: int) -> None:
    engine: Engine[list[Answer]] = Engine(BigramScorer(batch_tokens=batch), max_programs=alive)
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

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        if sum(len(row.probe) for row in rows) > self.memory:
            raise OutOfMemoryError("at once")
        number = sum(event == "start" for event, _ in self.log)
        self.log.append(("start", number))
        return lambda: self._finish(number, rows)

    def _finish(self, number: int, rows: Sequence[BatchRow]) -> list[Answer]:
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

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        return [np.full(3, one[-1], np.float32) for one in super().score(rows)]


def test_answers_of_another_length_than_the_probe_are_remembered_too() -> None:
    engine: Engine[list[Answer]] = Engine(scorer := TripleScorer())
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
    def failing() -> Program[list[Answer]]:
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
    monkeypatch.setattr("lingua.text.units._SECONDS", 0.02)
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


class Alive:
    """Programs that read on, and how many of them have been answered but are not done."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def program(self, room: int, first: int, steps: int = 3) -> Program[int]:
        context = Context((0,), reserved=room)
        yield [Score(context, [first], [7])]
        self.now += 1
        self.most = max(self.most, self.now)
        for step in range(steps):
            yield [Score(context, [first, step], [step])]
        self.now -= 1
        return first


def test_as_many_programs_read_at_once_as_there_is_room_for_what_they_grow_to() -> None:
    scorer, alive = BigramScorer(), Alive()
    scorer.live_tokens = 1_000
    assert list(Engine(scorer).run(alive.program(100, first) for first in range(40))) == list(range(40))
    assert alive.most == 10


def test_a_probe_that_is_forgotten_with_its_batch_needs_no_room() -> None:
    scorer = BigramScorer()
    scorer.live_tokens = 100
    list(Engine(scorer).run(program([([first], [first] * 50)]) for first in range(1, 40)))
    assert scorer.batches == [39 * 50]


def test_a_program_too_large_for_all_the_room_runs_alone() -> None:
    scorer, alive = BigramScorer(), Alive()
    scorer.live_tokens = 10
    assert list(Engine(scorer).run(alive.program(500, first) for first in range(5))) == list(range(5))
    assert alive.most == 1


@given(st.lists(st.tuples(requests, st.lists(st.integers(0, 60), min_size=4, max_size=4)), max_size=9), st.data())
@settings(deadline=None)
def test_programs_that_come_to_need_more_room_wait_and_are_answered_all(
    many: list[tuple[Asked, list[int]]], data: st.DataObject
) -> None:
    def moving(asked: Asked, rooms: list[int]) -> Program[list[Answer]]:
        answers = list[Answer]()
        for (commit, probe), room in zip(asked, rooms, strict=False):
            answers += yield [Score(Context((0,), reserved=room), probe, commit)]
        return answers

    scorer = BigramScorer(batch_tokens=data.draw(st.integers(1, 50)))
    scorer.live_tokens = data.draw(st.integers(1, 100))
    results = list(Engine(scorer, max_programs=5).run(moving(*one) for one in many))
    for (asked, _), answers in zip(many, results, strict=True):
        for (commit, probe), answer in zip(asked, answers, strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(answer, bigram([0, *commit, *probe])[1 + len(commit) :])


class ShortScorer(BigramScorer):
    """Has no memory for more than `least` tokens in the batches from `first` to `last`; `sizes` is what was tried."""

    def __init__(self, first: int, last: int, least: int, **others: int) -> None:
        super().__init__(**others)
        self.first, self.last, self.least = first, last, least
        self.sizes: list[int] = []

    def score(self, rows: Sequence[BatchRow]) -> list[Answer]:
        self.sizes.append(sum(len(row.probe) for row in rows))
        self.memory = self.least if self.first <= len(self.sizes) <= self.last else 1 << 40
        return super().score(rows)


def test_memory_that_is_short_for_a_while_makes_small_batches_for_a_while() -> None:
    scorer = ShortScorer(3, 20, 1, batch_tokens=256)
    asked = [[([first], [5, first] * 20), ([2], [first] * 40)] for first in range(1, 99)]
    results = list(Engine(scorer).run(program(one) for one in asked))  # type: ignore[arg-type]
    for one, answers in zip(asked, results, strict=True):
        for found, wanted in zip(answers, expected(one), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(found, wanted)
    assert min(scorer.batches) == 1
    assert max(scorer.batches[-9:]) > 200
    assert scorer.batch_tokens == 256


def test_a_memory_that_stays_small_is_tried_ever_more_rarely() -> None:
    def failures(programs: int) -> int:
        scorer = ShortScorer(0, 1 << 30, 100, batch_tokens=256)
        list(Engine(scorer).run(program([([first], [5, first] * 20)]) for first in range(programs)))
        return len(scorer.sizes) - len(scorer.batches)

    assert failures(800) <= failures(400) + 2


class FullScorer(LateScorer):
    """Keeps what contexts have read until they are gone, in a pool of `pool` tokens."""

    def __init__(self, pool: int, ahead: int = 0, **others: int) -> None:
        super().__init__(ahead, **others)
        self.pool = pool
        self.held: list[weakref.ref[Held]] = []
        self.seen: set[int] = set()

    def cached(self, context: Context) -> int:
        return min(context.cache.length, len(context) - 1) if context.cache is not None else 0

    def start(self, rows: Sequence[BatchRow]) -> Arriving[list[Answer]]:
        self.seen.add(self.batch_tokens)
        held = sum(one.length for ref in self.held if (one := ref()) is not None)
        new = sum(len(row.context) - self.cached(row.context) + len(row.probe) for row in rows)
        if held + new > self.pool:
            raise PoolFullError(f"{held} + {new}")
        for row in rows:
            row.context.cache = Held(len(row.context))
            self.held.append(weakref.ref(row.context.cache))
        return super().start(rows)


class Held:
    """The keys and values of so many tokens, or of a fork of them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def fork(self) -> Held:
        return self


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_a_full_pool_waits_and_lets_go_what_can_be_computed_again_before_batches_shrink(ahead: int) -> None:
    scorer = FullScorer(300, ahead, batch_tokens=200)
    scorer.live_tokens = 100_000  # far more than there is
    asked = [[([first] * 20, [first] * 9)] + [([step] * 15, [first, step]) for step in range(3)] for first in range(30)]
    results = list(Engine(scorer).run(program(one) for one in asked))
    for one, answers in zip(asked, results, strict=True):
        for found, wanted in zip(answers, expected(one), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(found, wanted)
    assert scorer.seen == {200}


def test_a_pool_that_not_even_one_context_fits_into_is_an_error() -> None:
    scorer = FullScorer(30, batch_tokens=200)
    with pytest.raises(ModelError, match="out of memory"):
        list(Engine(scorer).run([program([([1] * 50, [2, 3])])]))
