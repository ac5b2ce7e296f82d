"""Statistics, the run's report, its summary and `_stats.json`."""

from __future__ import annotations

import json

import pytest

from cluster.output.records import Counts, Statistics
from cluster.protocol import Failure, ShardReport
from cluster.report.statistics import RunReport
from tests.cluster.corpora import record, shards

TWO = [
    ShardReport(
        "a",
        "committed",
        Counts(11, 7, 1, 1, 1, {"null_text": 1}, 1000, 500, relaxed=1, fidelity=8.0, sampled=1, predicted=0.5),
        2.0,
    ),
    ShardReport(
        "b",
        "committed",
        Counts(5, 3, 0, 0, 2, {"null_text": 1, "wrong_type": 1}, 500, 249, fidelity=1.75, sampled=2, predicted=0.4),
        1.0,
    ),
]


def report(planned: int = 2, **changes: object) -> RunReport:
    total = Statistics.over(record(shard, report) for shard, report in zip(shards(2), TWO, strict=True))
    return RunReport(planned, total, total, 10.0, **changes)  # type: ignore[arg-type]


def test_statistics_add_up_over_shards() -> None:
    total = Statistics.over(record(shard, report) for shard, report in zip(shards(2), TWO, strict=True))
    assert (total.shards, total.rows, total.compressed, total.passthrough) == (2, 16, 10, 1)
    assert (total.over_budget, total.rejected, total.rejects) == (1, 3, {"null_text": 2, "wrong_type": 1})
    assert total.rows == total.compressed + total.passthrough + total.over_budget + total.relaxed + total.rejected
    assert total.rate == 749 / 1500
    assert total.mean_fidelity == 9.75 / 13
    assert total.mean_predicted == pytest.approx(0.3)


def test_sums_add_up() -> None:
    total = report().total
    both = total + total
    assert (both.shards, both.rows, both.origin_tokens, both.seconds) == (4, 32, 3000, 6.0)
    assert both.rejects == {"null_text": 4, "wrong_type": 2}


def test_nothing_has_no_rate_and_fidelity_one() -> None:
    assert (Statistics().rate, Statistics().mean_fidelity, Statistics().mean_predicted) == (None, 1.0, None)
    assert "rate" not in RunReport(0, Statistics(), Statistics(), 0.0).summary()


def test_a_run_is_complete_only_with_every_shard_and_no_objection() -> None:
    assert report().complete
    assert not report(planned=3).complete
    assert not report(stopped="SIGTERM").complete
    assert not report(given_up={"c": Failure("died", "died", "…")}).complete


def test_the_statistics_file_is_json_with_settings_and_all_counts() -> None:
    content = json.loads(json.dumps(report().as_json({"settings": {"rate": 0.5}, "model_digest": "abc"})))
    statuses = {"compressed": 10, "passthrough": 1, "kept": 0, "over_budget": 1, "relaxed": 1, "rejected": 3}
    assert content["statuses"] == statuses
    assert (content["fidelity"], content["fidelity_sample"]) == (0.75, {"rows": 3, "predicted": 0.3})
    assert content["rejects"] == {"null_text": 2, "wrong_type": 1}
    assert content["last_run"]["tokens_per_second"] == 150.0
    assert content["settings"] == {"rate": 0.5}
    assert (content["complete"], content["model_digest"]) == (True, "abc")


def test_the_summary_of_a_complete_run() -> None:
    text = report().summary()
    assert text.startswith("Complete: all 2 shards are committed.")
    assert "1,500 → 749 (rate 0.499)" in text
    assert "null_text 2, wrong_type 1" in text
    assert "150 tokens/s" in text
    assert "1 over budget, 1 relaxed" in text
    assert "fidelity   0.750 of information, numbers and names kept; 3 sampled rows predict 0.300" in text
    assert "The same command" not in text


def test_the_summary_says_why_there_is_no_fidelity_sample() -> None:
    counts = Counts(2, 2, origin_tokens=10, compressed_tokens=5, fidelity=1.5)
    total = Statistics.over([record(shards(1)[0], ShardReport("a", "committed", counts, 1.0))])
    text = RunReport(1, total, total, 1.0).summary("method rarity has no causal model to ask")
    assert "0.750 of information, numbers and names kept; no sample: method rarity has no causal model to ask" in text
    assert text.startswith("Complete: the only shard is committed.")
    assert "this run   1 shard, 2 rows in 1.0 s" in text


def test_the_summary_of_an_incomplete_run_says_why_and_what_to_do() -> None:
    lost = Failure("transient", "RetryShard", "cannot read s3://…: 503")
    text = report(planned=4, given_up={"part-3": lost}, failures={"RetryShard": 3}, stopped="SIGTERM").summary()
    assert text.startswith("Not complete: 2 of 4 shards are committed (SIGTERM).")
    assert "part-3: cannot read s3://…: 503" in text
    assert "failures   RetryShard 3" in text
    assert "The same command again goes on" in text


def test_why_a_model_runs_row_by_row_is_told_at_the_end_of_a_run() -> None:
    how = ("packed; differs from the plain forward by 0", "row by row: its attention is not told the cap of its logits")
    told = report(packing=how)
    assert told.as_json({})["last_run"]["model"] == list(how)
    assert "model      row by row: its attention is not told" in told.summary()
    assert "packed" not in told.summary()


@pytest.mark.parametrize(("shards", "said"), [(1, "1 whole shard\n"), (2, "2 whole shards\n")])
def test_what_was_reused_is_said_in_singular_and_plural(shards: int, said: str) -> None:
    total = Statistics(rows=11, reused=8, reused_shards=shards)
    assert f"  reused     8 of 11 rows, among them {said}" in RunReport(3, total, total, 1.0).summary()
