"""What a worker does: contexts at exactly their size by every candidate, and a target's word on what is left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RowError
from cluster.protocol import Assignment
from jobs.evaluation.candidates import budget_of
from jobs.evaluation.ledger import EvalLedger, Unit, identify, waves
from jobs.evaluation.rows import CONTEXT, OUTPUT, REFERENCES, REJECTED, Measured
from jobs.evaluation.settings import EvalConfig
from jobs.evaluation.specs import BASES, TargetSpec
from jobs.evaluation.work import UnitRunner
from lingua.prompt import Rejected
from tests.jobs.evaluation.samples import PASSAGES, ROW, Reader, make_reader, row
from tests.jobs.peers import stand_in
from tests.models import save, tokenizer

WHOLE = "\n\n".join(PASSAGES)
ROWS = [ROW, row("forest", question="How many trails?", answers=("three",), gold={"doc_index": 1})]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("compressor"))


@pytest.fixture
def config(model: Path, tmp_path: Path) -> EvalConfig:
    return make_config(model, tmp_path)


def make_config(model: Path, folder: Path, **settings: Any) -> EvalConfig:
    chosen = {"data": {"cities": "x"}, "output": str(folder / "out"), "model": str(model), "device": "cpu"}
    return EvalConfig(**{**chosen, "rate": [0.5, 0.25], "candidates": list(BASES), **settings})


def begun(config: EvalConfig) -> EvalLedger:
    ledger = EvalLedger(config.output)
    ledger.begin(identify(config, {"cities": ROWS}))
    ledger.store({"cities": ROWS})
    return ledger


def working(config: EvalConfig) -> UnitRunner:
    """A worker on an output that was begun."""
    begun(config)
    return UnitRunner(config, [], make_reader)


def compressed(work: UnitRunner, candidate: str) -> list[Measured]:
    with closing(work):
        return work.measure(unit_of(candidate), ROWS)


def unit_of(candidate: str) -> Unit:
    sizes = (None,) if candidate in REFERENCES else (0.5, 0.25)
    return Unit("cities", candidate, "", 0, len(ROWS), sizes)


def run_all(config: EvalConfig, make: Any = make_reader) -> list[Measured]:
    """The whole evaluation in this process."""
    ledger = begun(config)
    plan = waves(config, {"cities": len(ROWS)})
    for wave in plan:
        runner = UnitRunner(config, wave, make)
        for unit in wave:
            report = runner.run(_assignment(unit))
            assert report.outcome == "committed"
        runner.close()
    return list(ledger.measured(unit for wave in plan for unit in wave))


def _assignment(unit: Unit) -> Assignment:
    return Assignment(unit.shard())


def test_every_candidate_keeps_as_much_of_the_context_as_was_asked_and_no_more(config: EvalConfig) -> None:
    work, count = working(config), tokenizer().count
    for name in BASES:
        for one in compressed(work, name):
            asked = budget_of(one.rate or 0, count(WHOLE))
            assert one.values["origin_tokens"] == count(WHOLE)
            assert one.values["tokens"] == count(one.texts[CONTEXT])
            assert one.values["tokens"] <= asked + 1, (
                name
            )  # a joint with question or instruction may tokenize otherwise
            assert one.values["tokens"] >= (0.6 if name == "default" else 0.85) * asked, (
                name
            )  # whole, with what they need
            assert one.values["kept"] == pytest.approx(one.values["tokens"] / count(WHOLE))


def test_question_and_instruction_do_not_change_what_a_rate_means(config: EvalConfig) -> None:
    work = working(config)
    unit = unit_of("rarity")
    short = work.measure(unit, [ROW])
    longer = row("curie", instruction="Answer. " * 30, question="When? " * 30)
    again = work.measure(unit, [longer])
    for one, other in zip(short, again, strict=True):
        assert abs(one.values["tokens"] - other.values["tokens"]) <= 1


def test_the_references_are_everything_and_nothing(config: EvalConfig) -> None:
    work = working(config)
    full, nothing = compressed(work, "full")[0], compressed(work, "nothing")[0]
    assert (full.rate, full.texts[CONTEXT], full.values["kept"], full.values["answer_kept"]) == (None, WHOLE, 1.0, 1.0)
    assert (nothing.texts[CONTEXT], nothing.values["tokens"], nothing.values["answer_kept"]) == ("", 0, 0.0)


@pytest.mark.parametrize(("size", "tokens"), [(0.5, 50), (1.0, 100), (0.001, 1), (30.0, 30), (300.0, 100)])
def test_a_size_is_a_share_or_above_one_a_number(size: float, tokens: int) -> None:
    assert budget_of(size, 100) == tokens


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a stand-in for the public library, which keeps every second word."""
    monkeypatch.setenv("LINGUA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "packages"
    folder.mkdir()
    stand_in(folder)
    return {"peer_python": sys.executable, "peer_path": str(folder)}


def test_the_peer_is_measured_at_the_size_that_it_reaches(model: Path, tmp_path: Path, peer: dict[str, Any]) -> None:
    config = make_config(model, tmp_path, candidates=["peer"], **peer)
    for one in compressed(working(config), "peer"):
        assert one.texts[CONTEXT].split() == " ".join(PASSAGES).split()[::2]
        assert one.values["asked"] == pytest.approx(one.rate, abs=0.02)
        assert one.values["kept"] == pytest.approx(tokenizer().count(one.texts[CONTEXT]) / tokenizer().count(WHOLE))


def test_others_keep_as_much_as_the_peer_where_that_is_asked(model: Path, tmp_path: Path, peer: dict[str, Any]) -> None:
    config = make_config(model, tmp_path, candidates=["peer", "random"], rate=[0.2], match_peer=True, **peer)
    found = run_all(config)
    kept = {(one.candidate, one.row): one.values["tokens"] for one in found if one.rate}
    for one in ROWS:
        assert 0.9 * kept["peer", one.id] <= kept["random", one.id] <= kept["peer", one.id] + 1


def test_a_prompt_that_the_peer_fails_on_is_set_aside_and_the_others_go_on(
    model: Path, tmp_path: Path, peer: dict[str, Any]
) -> None:
    config = make_config(model, tmp_path, candidates=["peer"], **peer)
    rows = [row("bad", context=("please-fail",)), ROW]
    unit = replace(unit_of("peer"), sizes=(0.5,))
    with closing(working(config)) as work:
        bad, good = work.measure(unit, rows)
    assert bad.texts[REJECTED].startswith("peer_failed: ")
    assert not bad.values
    assert good.values["tokens"] > 0


def test_a_target_reads_the_compressed_prompt_and_the_easiest_answer_counts(model: Path, tmp_path: Path) -> None:
    found = run_all(make_config(model, tmp_path, candidates=["lead"], targets=["reader: model=" + str(model)]))
    nll = {(one.row, one.candidate, one.rate): one.values["nll"] for one in found if one.target}
    assert nll["curie", "full", None] == 1.0
    assert nll["curie", "nothing", None] > 10
    assert len(nll) == len(ROWS) * 4
    assert all(one.texts == {} for one in found if one.target)


def test_what_is_generated_is_kept_and_measured(model: Path, tmp_path: Path) -> None:
    target = "reader: model=" + str(model)
    found = run_all(make_config(model, tmp_path, candidates=["lead"], targets=[target], ask=["nll", "generate"]))
    (full,) = [one for one in found if (one.row, one.candidate, one.target) == ("curie", "full", "reader")]
    assert full.texts[OUTPUT] == "1867"
    assert full.values["subspan_em"] == full.values["f1"] == full.values["nll"] == 1.0


class Picky(Reader):
    """Refuses prompts that speak of trails."""

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        if any("trails?" in prompt for prompt in prompts):
            raise RowError("refused", "too long")
        return super().nll(prompts, answers)


def test_a_prompt_that_a_target_refuses_costs_no_other_its_answer(model: Path, tmp_path: Path) -> None:
    target = "reader: model=" + str(model)
    found = run_all(make_config(model, tmp_path, candidates=["lead"], targets=[target]), _picky)
    asked = [one for one in found if one.target]
    assert {one.row for one in asked if "nll" in one.values} == {"curie"}
    assert {one.texts.get(REJECTED) for one in asked if one.row == "forest"} == {"refused: too long"}


def _picky(spec: TargetSpec, config: EvalConfig) -> Reader:
    return Picky(spec.name)


def test_a_probe_commits_nothing_and_a_poison_row_is_set_aside(config: EvalConfig) -> None:
    ledger = begun(config)
    (wave,) = waves(config, {"cities": len(ROWS)})
    unit = next(one for one in wave if one.candidate == "lead")
    runner = UnitRunner(config, wave, make_reader)
    probed = runner.run(Assignment(unit.shard(), probe=range(1)))
    assert (probed.outcome, probed.counts.rows) == ("probed", 2)
    assert not ledger.committed()
    done = runner.run(Assignment(unit.shard(), poison={1: Rejected("killed_worker", "twice")}))
    assert (done.outcome, done.counts.rejected) == ("committed", 2)
    rejected = {one.row: one.texts[REJECTED] for one in ledger.unit(unit) if REJECTED in one.texts}
    assert rejected == {"forest": "killed_worker: twice"}
    assert sorted(one.rate or 0 for one in ledger.unit(unit) if one.row == "forest") == [0.25, 0.5]


def test_sentences_that_a_ranker_prefers_are_kept_whole_and_in_their_order(model: Path, tmp_path: Path) -> None:
    texts = ("The mill burned down in 1902. Its owner was Ada Prins.", "Rain fell. The owner of the ferry was Jan Bol.")
    asked = row("asked", context=texts, question="Who was the owner of the ferry?")
    config = make_config(model, tmp_path, candidates=["near: sentences rank_method=bm25"])
    unit = replace(unit_of("near"), sizes=(0.8, 0.5))
    with closing(working(config)) as work:
        most, half = work.measure(unit, [asked])
    sentences = [
        "The mill burned down in 1902.",
        "Its owner was Ada Prins.",
        "Rain fell.",
        "The owner of the ferry was Jan Bol.",
    ]
    for one in (most, half):
        kept = [sentence for sentence in sentences if sentence in one.texts[CONTEXT]]
        assert "".join(kept).replace(" ", "") == "".join(one.texts[CONTEXT].split())
        assert one.values["kept"] <= one.rate
    assert sentences[-1] in half.texts[CONTEXT]
    assert len(most.texts[CONTEXT]) > len(half.texts[CONTEXT])
