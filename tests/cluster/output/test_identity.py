"""A run is known by what its method reads: what gives the same results is gone on with, and reused.

`plans/` holds plans of a version that noted all settings, and not yet what it computed by.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import OUTPUT_SETTINGS, JobConfig
from cluster.errors import PlanConflict
from cluster.input.inputs import list_inputs
from cluster.output.ledger import Ledger
from cluster.output.plan import LAYOUT_SETTINGS, Identity, Plan
from cluster.output.prepare import draft_plan, make_plan
from cluster.output.reuse import open_previous
from cluster.output.verify import verify
from cluster.storage.storage import Storage
from lingua.config import CompressionConfig, fields
from lingua.methods import METHODS
from tests.cluster.jobs_for_tests import run_shard, write_lines

DIGEST = "d" * 32
STORED = {"evidence": {"rate": 0.5}, "paper": {"preset": "paper", "rate": 0.3, "dtype": "float32"}}
"""Plan → the settings that it was made with."""
TEXT = "one two three four"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", [{"text": TEXT}])


def job(corpus: Path, **settings: Any) -> JobConfig:
    return JobConfig(input=str(corpus), output=str(corpus.parent / "out"), **settings)


def begun(name: str, corpus: Path) -> Ledger:
    """An output of these settings, its shard committed."""
    config = job(corpus, **STORED[name])
    ledger, plan = Ledger(config.output), make_plan(config, DIGEST)
    ledger.open_or_create(plan)
    for shard in plan.shards:
        run_shard(plan, shard, ledger)
    return ledger


@pytest.mark.parametrize("name", STORED)
def test_an_output_that_an_earlier_version_began_goes_on(
    name: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begun(name, corpus)
    later = (*OUTPUT_SETTINGS, "report_samples")  # of a version in which another setting decides
    monkeypatch.setattr("cluster.config.OUTPUT_SETTINGS", later)
    assert draft_plan(job(corpus, **STORED[name]), DIGEST, ledger) == ledger.plan()
    assert verify(ledger.url).problems == []


@pytest.mark.parametrize("name", STORED)
def test_an_output_that_does_not_tell_how_its_results_came_about_does_not_go_on_and_is_not_reused(
    name: str, corpus: Path
) -> None:
    ledger = begun(name, corpus)
    older = Plan.from_bytes((Path(__file__).parent / "plans" / f"format_2_{name}.json").read_bytes(), name)
    (source,) = list_inputs([str(corpus)], Storage()).sources
    shards = tuple(replace(shard, source=source) for shard in older.shards)
    (Path(ledger.url) / "_plan.json").write_bytes(replace(older, sources=(source,), shards=shards).to_bytes())
    with pytest.raises(PlanConflict, match="by a version that gives other results"):
        draft_plan(job(corpus, **STORED[name]), DIGEST, ledger)
    reusing = JobConfig(input=str(corpus), output=str(corpus.parent / "b"), reuse=ledger.url, **STORED[name])
    with pytest.raises(PlanConflict, match="nothing of it can be used: by a version that gives other results"):
        open_previous(reusing, DIGEST)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("evidence", {"rate": 0.4}, "rate was 0.5, now 0.4"),
        ("evidence", {"coherence": 0.2}, "coherence was 0.7, now 0.2"),
        ("evidence", {"method": "random"}, 'method was "evidence", now "random"'),
        ("evidence", {"id_column": "text"}, 'id_column was null, now "text"'),
        ("paper", {"dtype": "auto"}, 'dtype was "float32", now "auto"'),
        ("paper", {"preset": None, "method": "llmlingua"}, 'unit was "token", now "word"'),
    ],
)
def test_what_decides_is_still_refused(name: str, change: dict[str, Any], said: str, corpus: Path) -> None:
    ledger = begun(name, corpus)
    with pytest.raises(PlanConflict) as refused:
        draft_plan(job(corpus, **{**STORED[name], **change}), DIGEST, ledger)
    assert said in str(refused.value)


def test_the_number_type_of_a_method_that_computes_nothing_decides_nothing(corpus: Path) -> None:
    ledger = begun("evidence", corpus)
    for dtype in ("auto", "float32", "bfloat16"):
        assert draft_plan(job(corpus, rate=0.5, dtype=dtype), DIGEST, ledger) == ledger.plan()
    identities = {
        method: {Identity.of(job(corpus, method=method, dtype=dtype), DIGEST).digest() for dtype in ("auto", "float16")}
        for method in METHODS
    }
    computing = {method for method, digests in identities.items() if len(digests) > 1}
    assert computing == {"llmlingua", "longllmlingua", "selective", "llmlingua2"}


@pytest.mark.parametrize("method", METHODS)
def test_a_setting_that_a_later_version_adds_changes_neither_digest_nor_fingerprint(method: str, corpus: Path) -> None:
    identity = Identity.of(job(corpus, method=method), DIGEST)
    assert identity.settings.keys() == {"algorithm", "method", "rate"}
    unknown = fields().keys() | JobConfig.model_fields.keys()
    assert identity.settings.keys() - unknown == {"algorithm"}


def test_results_that_come_about_in_another_way_are_not_mixed(corpus: Path) -> None:
    now = Identity.of(job(corpus), DIGEST)
    other = replace(now, settings={**now.settings, "algorithm": now.settings["algorithm"] + 1})
    assert list(other.differences(now)) == list(other.differences(now, LAYOUT_SETTINGS))
    assert "by a version that gives other results" in next(other.differences(now))


@pytest.mark.parametrize(
    ("columns", "settings"),
    [
        ({"json_column": "a"}, {"json_rules": {"x": "keep"}}),
        ({"messages_column": "a"}, {"message_rates": {"newest_user": "compress"}}),
    ],
)
def test_settings_of_structured_rows_decide_where_there_are_some(
    columns: dict[str, str], settings: dict[str, Any], corpus: Path
) -> None:
    plain, own = (Identity.of(job(corpus, **columns, **more), DIGEST) for more in ({}, settings))
    assert list(plain.differences(own)) == list(reversed(list(plain.differences(own, LAYOUT_SETTINGS)))) != []


def test_of_a_model_that_is_not_asked_the_tokenizer_decides(tmp_path: Path) -> None:
    from lingua.methods import models_digest
    from lingua.models.source import resolve

    def digest(weights: str, tokenizer: str, **settings: Any) -> str:
        folder = tmp_path / f"{weights}-{tokenizer}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(weights)
        (folder / "tokenizer.json").write_text(json.dumps({"kind": tokenizer}))
        return models_digest(resolve(str(folder)), CompressionConfig(**settings))

    for plain in ({"method": "random"}, {"focus_model": "none"}):
        assert digest("a", "x", **plain) == digest("b", "x", **plain) != digest("a", "y", **plain)
    assert digest("a", "x", method="llmlingua") != digest("b", "x", method="llmlingua")
