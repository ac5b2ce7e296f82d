"""A run is known by what its method reads: what earlier versions wrote is gone on with, and reused.

`plans/` holds plans as version 0.1.0 wrote them, with all settings and the digest "dd…" of a model.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import JobConfig
from cluster.errors import PlanConflict
from cluster.input.columns import prompt_content
from cluster.input.inputs import list_inputs
from cluster.input.reader import read_rows
from cluster.input.shards import Row
from cluster.output.ledger import Ledger
from cluster.output.plan import LAYOUT_SETTINGS, Identity, Plan
from cluster.output.prepare import draft_plan, make_plan
from cluster.output.reuse import RowReuse, open_previous
from cluster.output.verify import verify
from cluster.protocol import Assignment
from cluster.run.worker import Worker
from cluster.storage.storage import Storage
from lingua.config import CompressionConfig, fields
from lingua.methods import METHODS
from lingua.prompt import Prompt
from tests.cluster.jobs_for_tests import run_shard, write_lines
from tests.fakes import FakeCompressor

DIGEST = "d" * 32
STORED = {"evidence": {"rate": 0.5}, "paper": {"preset": "paper", "rate": 0.3, "dtype": "float32"}}
"""Plan → the settings that it was made with."""
FINGERPRINTS = {"evidence": "6347776cb5b55d51a101de20290af954", "paper": "7c2ae8127571470a6b51dff3f70ea8c1"}
"""What version 0.1.0 wrote beside the result of the text below."""
TEXT = "one two three four"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", [{"text": TEXT}])


def job(corpus: Path, **settings: Any) -> JobConfig:
    return JobConfig(input=str(corpus), output=str(corpus.parent / "out"), **settings)


def stored(name: str, corpus: Path) -> Plan:
    """A stored plan, with its one shard pointing at the corpus."""
    plan = Plan.from_bytes((Path(__file__).parent / "plans" / f"format_2_{name}.json").read_bytes(), name)
    (source,) = list_inputs([str(corpus)], Storage()).sources
    return replace(plan, sources=(source,), shards=tuple(replace(shard, source=source) for shard in plan.shards))


def begun(name: str, corpus: Path, output: str = "out") -> Ledger:
    """An output of that plan, its shard committed."""
    ledger, plan = Ledger(str(corpus.parent / output)), stored(name, corpus)
    ledger.open_or_create(plan)
    for shard in plan.shards:
        run_shard(plan, shard, ledger)
    return ledger


@pytest.mark.parametrize("name", STORED)
def test_an_output_that_an_earlier_version_began_goes_on(name: str, corpus: Path) -> None:
    ledger = begun(name, corpus)
    assert draft_plan(job(corpus, **STORED[name]), DIGEST, ledger) == ledger.plan()
    assert verify(ledger.output).problems == []


@pytest.mark.parametrize("name", STORED)
def test_fingerprints_of_an_earlier_version_stay(name: str, corpus: Path) -> None:
    assert stored(name, corpus).identity.fingerprint(prompt_content(Prompt(context=(TEXT,)))) == FINGERPRINTS[name]


@pytest.mark.parametrize("name", STORED)
def test_what_an_earlier_version_wrote_is_reused_row_by_row_and_again_after_that(name: str, corpus: Path) -> None:
    begun(name, corpus, "first")
    config = job(corpus, **STORED[name], reuse=str(corpus.parent / "first"))
    previous = open_previous(config, DIGEST)
    assert previous is not None
    plan = make_plan(config, DIGEST, previous.plan.identity)
    lookup = RowReuse(previous.earlier(plan, ()), plan, Storage())
    (row,) = lookup.over(plan.shards[0], list(read_rows(plan.shards[0], plan.columns, Storage())))
    assert isinstance(row, Row)
    assert row.earlier is not None
    assert len(previous.unchanged(plan)) == 1
    ledger = Ledger(config.output)
    ledger.open_or_create(plan)
    report = Worker(config, plan, lambda _: FakeCompressor(), earlier=previous.earlier(plan, ())).run(
        Assignment(plan.shards[0])
    )
    assert report.counts.reused == 1
    assert verify(ledger.output).problems == []
    assert draft_plan(job(corpus, **STORED[name]), DIGEST, ledger) == plan
    third = JobConfig(input=str(corpus), output=str(corpus.parent / "third"), reuse=config.output, **STORED[name])
    assert open_previous(third, DIGEST) is not None


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
    older = replace(own, settings={**own.settings, "preset": None, "window_tokens": 510})
    assert list(older.differences(own)) == []


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
