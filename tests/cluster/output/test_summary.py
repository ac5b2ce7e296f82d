"""What a shard's summary keeps, and that it stays small."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.input.shards import Row
from cluster.output.summary import BINS, CHARACTERS, DROPPED_CHARACTERS, EXTREMES, ShardSummary, Summarizer, bin_of
from cluster.report.page import Merged
from lingua.prompt import CompressedPrompt, Prompt
from tests.fakes import SAMPLE, FakeCompressor


def outcome_of(prompt: Prompt) -> CompressedPrompt:
    (outcome,) = FakeCompressor().compress([prompt])
    assert isinstance(outcome, CompressedPrompt)
    return outcome


def summarized(texts: list[str], samples: int = 2, seconds: list[float] | None = None) -> ShardSummary:
    """The summary of documents; each took so many seconds."""
    moments = iter([0.0]) if seconds is None else iter([sum(seconds[:n]) for n in range(len(seconds) + 1)])
    summarizer = Summarizer(samples, "id", clock=lambda: next(moments, 0.0))
    for number, text in enumerate(texts):
        fingerprint = sha256(text.encode()).hexdigest()
        row = Row(number, {"text": text, "id": f"doc-{number}"}, {})
        summarizer.add(row, partial(Prompt, context=(text,)), outcome_of(Prompt(context=(text,))), fingerprint)
    return summarizer.summary()


def words(number: int) -> str:
    return " ".join(f"word{index}" for index in range(number))


def test_naming_the_strings_of_a_sample_joins_the_prompt_no_oftener_the_more_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[int] = []
    monkeypatch.setattr("lingua.prompt.join_parts", lambda parts, separator: joined.append(1) or separator.join(parts))

    def joins(strings: int) -> int:
        prompt = Prompt(context=[f"string {number}" for number in range(strings)])
        joined.clear()
        Summarizer(1).add(Row(0, {}, {}), lambda: prompt, outcome, "fingerprint")
        return len(joined)

    outcome = replace(outcome_of(Prompt(context=["string of several words"])), kept_spans=((),) * 400)
    assert joins(400) == joins(200) <= 1


def test_rates_are_counted_in_bins() -> None:
    found = summarized([words(1), words(10), words(10), words(3)])
    assert sum(found.rates) == 4
    assert (found.rates[bin_of(0.5)], found.rates[bin_of(2 / 3)], found.rates[bin_of(1.0)]) == (2, 1, 1)


@given(st.integers(0, BINS))
def test_a_rate_on_an_edge_counts_above_it(edge: int) -> None:
    assert bin_of(edge / BINS) == min(edge, BINS - 1)


def test_the_slowest_rows_are_those_that_held_up_the_next() -> None:
    found = summarized([words(4)] * 5, seconds=[0.5, 3.0, 0.1, 9.0, 1.0])
    assert [(note.row, note.seconds) for note in found.slowest] == [(3, 9.0), (1, 3.0), (4, 1.0)]


def test_the_time_of_a_rejected_row_is_not_charged_to_the_next() -> None:
    moments = count(0.0, 5.0)
    summarizer = Summarizer(0, clock=lambda: next(moments))
    summarizer.skip()
    prompt = Prompt(context=("one two three four",))
    summarizer.add(Row(1, {}, {}), lambda: prompt, outcome_of(prompt), "f")
    assert summarizer.summary().slowest[0].seconds == 5.0


def test_the_worst_rows_kept_most_and_were_not_passed_through() -> None:
    found = summarized([words(1), words(3), words(10), words(5)])
    assert [note.row for note in found.worst] == [1, 3, 2]
    assert found.worst[0].id == "doc-1"


def test_the_rows_that_lost_most_have_the_lowest_fidelity_and_were_compressed() -> None:
    found = summarized([words(1), words(3), words(10), words(5), words(20)])
    assert [(note.row, note.fidelity) for note in found.lost] == [(4, 0.5), (2, 0.5), (3, 0.6)]
    assert (sum(found.fidelities), found.fidelities[bin_of(0.5)], found.fidelities[-1]) == (5, 2, 1)


def test_of_the_fidelity_sample_the_rows_that_predict_least_are_noted() -> None:
    found = summarized([f"{SAMPLE} {words(9)}", words(10), f"{SAMPLE} {words(15)}"])
    assert [(note.row, note.predicted) for note in found.foretold] == [(2, 0.25), (0, 0.25)]


def test_samples_are_the_rows_with_the_smallest_fingerprints_whatever_the_shards() -> None:
    texts = [f"document {number} has several words" for number in range(40)]
    best = sorted(texts, key=lambda text: sha256(text.encode()).hexdigest())[:3]
    for cuts in ([40], [13, 27], [1, 20, 19]):
        merged, position = Merged(), 0
        for size in cuts:
            merged.add("file", summarized(texts[position : position + size], samples=3))
            position += size
        assert [sample.pieces[0].text for _, sample in merged.samples[:3]] == best


@pytest.mark.parametrize(
    "text", ["nul \0 end", "<script>alert(1)</script> a b", "שלום עולם טוב מאד", "😀 a b 👩‍👩‍👧 d", "a\nb\tc d"]
)
def test_a_sketch_comes_back_from_its_bytes(text: str) -> None:
    found = summarized([text])
    assert ShardSummary.from_bytes(found.to_bytes()) == found


def test_half_of_a_surrogate_pair_comes_back_as_a_sign_of_the_same_width() -> None:
    found = summarized(["a b 😀"])
    broken = replace(found, samples=(replace(found.samples[0], compressed="a \ud83d 😀"),))
    assert ShardSummary.from_bytes(broken.to_bytes()).samples[0].compressed == "a ? 😀"


def test_half_of_a_surrogate_pair_in_an_id_is_shown_as_its_escape() -> None:
    summarizer = Summarizer(1, "id")
    prompt = Prompt(context=("a b c d",))
    summarizer.add(Row(0, {"text": "a b c d", "id": "\ud83d"}, {}), lambda: prompt, outcome_of(prompt), "f")
    found = ShardSummary.from_bytes(summarizer.summary().to_bytes())
    assert [note.id for note in (*found.slowest, found.samples[0].note)] == ["\\ud83d"] * 2


def test_what_is_no_sketch_is_refused() -> None:
    for data in (b"", b"[]", b'{"rates": 3}', b'{"rates": [], "fidelities": [], "slowest": [{}]}'):
        with pytest.raises(ValueError, match="not a summary"):
            ShardSummary.from_bytes(data)


def test_equal_rows_are_shown_once() -> None:
    merged = Merged()
    for _ in range(3):
        merged.add("file", summarized([words(10)] * 5 + [words(12)], samples=4))
    assert len(merged.samples) == 2
    assert sum(merged.rates) == 18


def test_a_sketch_is_bounded_whatever_the_rows_are() -> None:
    found = summarized([words(20_000) + str(number) for number in range(30)], samples=2)
    assert len(found.to_bytes()) < 2 * 40 * CHARACTERS
    assert (len(found.slowest), len(found.worst), len(found.samples)) == (EXTREMES, EXTREMES, 2)
    for sample in found.samples:
        piece = sample.pieces[0]
        assert len(piece.text) == CHARACTERS
        assert piece.more > 0
        assert all(0 <= start < end <= CHARACTERS for start, end in piece.kept or ())


def test_a_prompt_of_many_strings_shows_the_beginning_of_the_first() -> None:
    summarizer = Summarizer(1)
    prompt = Prompt("Answer.", tuple(f"{number} " + words(300) for number in range(30)), "Why?")
    summarizer.add(Row(0, {}, {}), lambda: prompt, outcome_of(prompt), "f")
    (sample,) = summarizer.summary().samples
    assert [piece.name for piece in sample.pieces[:2]] == ["instruction", "context 0"]
    assert (len(sample.pieces), sample.more_pieces) == (12, 20)
    assert sum(len(piece.text) for piece in sample.pieces) <= CHARACTERS


def test_short_and_dropped_strings_leave_their_room_to_the_others() -> None:
    prompt = Prompt("Answer.", (words(300), words(400), words(500)), "Why?")
    outcome = outcome_of(prompt)
    outcome = replace(outcome, kept_spans=(outcome.kept_spans[0], (), outcome.kept_spans[2]))
    summarizer = Summarizer(1)
    summarizer.add(Row(0, {}, {}), lambda: prompt, outcome, "f")
    lengths = [len(piece.text) for piece in summarizer.summary().samples[0].pieces]
    assert [lengths[0], lengths[2], lengths[4]] == [len("Answer."), DROPPED_CHARACTERS, len("Why?")]
    assert sum(lengths) == CHARACTERS
    assert abs(lengths[1] - lengths[3]) <= 1


def test_a_shortened_instruction_is_shown_without_claiming_what_stayed() -> None:
    prompt = Prompt("Answer the question please.", ("one two three",), "")
    outcome = replace(outcome_of(prompt), instruction="Answer question.")
    summarizer = Summarizer(1)
    summarizer.add(Row(0, {}, {}), lambda: prompt, outcome, "f")
    assert [piece.kept for piece in summarizer.summary().samples[0].pieces] == [None, ((0, 3), (8, 13))]


def test_no_samples_means_no_text() -> None:
    found = summarized([words(30)], samples=0)
    assert found.samples == ()
    assert b"word1" not in found.to_bytes()
