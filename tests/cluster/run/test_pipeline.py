"""The pipeline: one outcome per row, in order, in bounded memory, whatever the compressor's look-ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RetryShard, RowError
from cluster.input.reader import Item
from cluster.input.shards import BadRow, Row
from cluster.protocol import Assignment, Beat
from cluster.run.worker import Pipeline
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected
from tests.cluster.corpora import shards

SHARD = shards(1)[0]


@dataclass
class LookingAhead:
    """Compresses nothing, but holds `depth` prompts before it gives its first outcome."""

    depth: int = 3
    crash_at: str | None = None
    short_by: int = 0
    held: int = 0

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        source = iter(prompts)
        window: deque[Prompt] = deque(islice(source, self.depth))
        while len(window) > self.short_by:
            self.held = max(self.held, len(window))
            yield self._outcome(window.popleft())
            window.extend(islice(source, 1))

    def _outcome(self, prompt: Prompt) -> Outcome:
        text = prompt.context[0]
        if text == self.crash_at:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if text.startswith("refused"):
            return Rejected("regex_timeout", "too slow")
        return CompressedPrompt(text, "", (text,), "", (0,), (((0, len(text)),),), 10, 5, 5)


@dataclass
class Run:
    """What a pipeline did with items."""

    compressor: LookingAhead = field(default_factory=LookingAhead)
    settled: list[tuple[Item, Outcome]] = field(default_factory=list)
    meter: Beat = field(default_factory=Beat)

    def __call__(self, items: Iterable[Item], assignment: Assignment | None = None) -> Run:
        sink = lambda item, outcome: self.settled.append((item, outcome))  # noqa: E731
        Pipeline(to_prompt, self.compressor, sink).run(items, assignment or Assignment(SHARD), self.meter)
        return self

    @property
    def numbers(self) -> list[int]:
        return [item.number for item, _ in self.settled]

    def reason(self, number: int) -> str | None:
        outcome = dict(zip(self.numbers, (outcome for _, outcome in self.settled), strict=True))[number]
        return outcome.reason if isinstance(outcome, Rejected) else None


def to_prompt(values: Mapping[str, object]) -> Prompt:
    if values["text"] is None:
        raise RowError("null_text", "nothing to compress")
    return Prompt(context=(str(values["text"]),))


def row(number: int, text: str | None = "text") -> Row:
    return Row(number, {"text": text}, {"text": text})


@given(st.lists(st.sampled_from(["good", "null", "bad", "refused"]), max_size=40), st.integers(1, 9))
def test_every_row_has_one_outcome_in_order(kinds: list[str], depth: int) -> None:
    made = {
        "good": lambda n: row(n),
        "null": lambda n: row(n, None),
        "bad": lambda n: BadRow(n, "invalid_json", "…", "{"),
        "refused": lambda n: row(n, "refused"),
    }
    run = Run(LookingAhead(depth))([made[kind](number) for number, kind in enumerate(kinds)])
    assert run.numbers == list(range(len(kinds)))
    reasons = {"good": None, "null": "null_text", "bad": "invalid_json", "refused": "regex_timeout"}
    assert [run.reason(number) for number in run.numbers] == [reasons[kind] for kind in kinds]
    assert run.meter.read == run.meter.done == len(kinds)


def test_rows_are_pulled_no_further_than_the_compressor_looks() -> None:
    pulled = 0

    def endless() -> Iterator[Row]:
        nonlocal pulled
        for number in range(10_000):
            pulled = number
            assert number - len(run.settled) <= 6
            yield row(number)

    run = Run(LookingAhead(5))
    run(endless())
    assert pulled == 9_999


def test_bad_rows_do_not_pile_up_while_the_compressor_waits_for_a_good_one() -> None:
    run = Run(LookingAhead(5))

    def bad() -> Iterator[BadRow]:
        for number in range(1000):
            assert len(run.settled) == number
            yield BadRow(number, "invalid_json", "…")

    run(bad())
    assert len(run.settled) == 1000


def test_a_probe_shows_only_its_rows_and_counts_all() -> None:
    run = Run()([row(number) for number in range(100, 110)], Assignment(SHARD, probe=range(2, 5)))
    assert run.numbers == [102, 103, 104]
    assert run.meter.read == 10


def test_poison_rows_are_set_aside_without_being_shown() -> None:
    poison = {1: Rejected("killed_worker", "twice")}
    run = Run(LookingAhead(crash_at="poison"))([row(7), row(8, "poison"), row(9)], Assignment(SHARD, poison=poison))
    assert [run.reason(number) for number in (7, 8, 9)] == [None, "killed_worker", None]


def test_what_the_compressor_or_the_reading_raises_is_raised_as_it_is() -> None:
    def broken() -> Iterator[Row]:
        yield row(0)
        raise RetryShard("503 slow down")

    with pytest.raises(RuntimeError, match="device-side assert"):
        Run(LookingAhead(crash_at="boom"))([row(0), row(1, "boom")])
    with pytest.raises(RetryShard, match="503"):
        Run()(broken())


def test_an_outcome_that_never_comes_is_an_error_not_a_lost_row() -> None:
    with pytest.raises(RuntimeError, match="no outcome for 1 prompts"):
        Run(LookingAhead(short_by=1))([row(number) for number in range(5)])


class Lazy:
    """Stops after the first prompt without a word."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        yield LookingAhead()._outcome(next(iter(prompts)))


def test_a_compressor_that_stops_before_its_prompts_do_is_an_error() -> None:
    items: list[Item] = [Row(number, {"text": f"row {number}"}, {}) for number in range(3)]
    with pytest.raises(RuntimeError, match="ended before its prompts did"):
        Pipeline(to_prompt, Lazy(), lambda item, outcome: None).run(items, Assignment(SHARD), Beat())


def test_known_rows_take_their_turn_and_are_not_shown_to_the_compressor() -> None:
    known = CompressedPrompt("known", "", ("known",), "", (0,), (), 2, 1, 1)
    items: list[Item] = [
        Row(number, {"text": f"row {number}"}, {}, known if number % 3 else None) for number in range(10)
    ]
    run = Run()
    run(items)
    assert [item for item, _ in run.settled] == items
    assert [outcome is known for _, outcome in run.settled] == [number % 3 != 0 for number in range(10)]
