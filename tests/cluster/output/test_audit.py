"""What is said of single rows without a model: values by other means, texts, tokens counted again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.output.ledger import Ledger
from cluster.output.verify import AT_ONCE, verify
from cluster.protocol import Assignment, ShardReport
from cluster.run.worker import Worker, load_compressor
from jobs.verify import main
from lingua.methods import models_digest
from lingua.models.source import resolve
from tests.cluster.forgery import replanned, reseal, rewritten
from tests.cluster.jobs_for_tests import job, open_plan, run, write_lines
from tests.models import fast_tokenizer
from tests.texts import PROSE


def test_the_footer_of_a_source_is_remembered_for_all_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        pa.table({"text": [f"row {n} has words " * 20 for n in range(64)]}), tmp_path / "a.parquet", row_group_size=4
    )
    plan = run(job(tmp_path / "a.parquet", tmp_path / "out", shard_size=1024))
    assert len(plan.shards) > 8
    opened: list[bool] = []

    def noticed(*source: Any, **how: Any) -> Any:
        if how.get("coerce_int96_timestamp_unit") == "s":
            opened.append("metadata" in how)
        return pq.ParquetFile(*source, **how)

    monkeypatch.setattr("cluster.output.audit.pq", SimpleNamespace(ParquetFile=noticed))
    assert verify(str(tmp_path / "out")).problems == []
    assert opened.count(True) == len(plan.shards)
    assert opened.count(False) <= AT_ONCE  # of shards that are looked at together, each may have been the first


# ---- tokens, counted again


@pytest.fixture
def compressed(tmp_path: Path) -> Callable[..., Path]:
    """Outputs whose tokens a real tokenizer counted, that of the folder "model"."""
    fast_tokenizer().save_pretrained(tmp_path / "model")

    def made(row: object, **settings: Any) -> Path:
        path = write_lines(tmp_path / "rows.jsonl", [row])
        chosen = {"model": str(tmp_path / "model"), "device": "cpu", "method": "random", "rate": 0.5, **settings}
        config = JobConfig(inputs=(str(path),), output=str(tmp_path / "out"), output_format="jsonl", **chosen)
        ledger = Ledger(config.output)
        plan = open_plan(config, models_digest(resolve(config.model), config.compression), ledger)
        worker = Worker(config, plan, load_compressor)
        assert isinstance(worker.attempt(Assignment(plan.shards[0])), ShardReport)
        return tmp_path / "out"

    return made


TALK = [{"role": "user", "content": "One of two things, said at some length."}, {"role": "user", "content": "Which?"}]
KINDS: dict[str, tuple[object, dict[str, Any]]] = {
    "text": (PROSE, {}),
    "messages": (TALK, {"messages_column": "v"}),
    "message text": (
        json.dumps(TALK),
        {"messages_column": "v", "message_rates": {"user": "compress", "newest_user": "compress"}},
    ),
    "json": ({"a b": PROSE, "c": [1.5, None, "a \U0001f600 é b c d"]}, {"json_column": "v"}),
    "json text": ('{"a": "\\u00e9 \\n two \\ud83d\\ude00 three four", "b": 1.50}', {"json_column": "v"}),
    "structured": (
        "Keep <llmlingua, rate=1>this</llmlingua> and cut this, a bit 1 2 3",
        {"structured_column": "v"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_every_kind_of_row_are_counted_again_by_the_tokenizer_of_the_run(
    compressed: Callable[..., Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, settings = KINDS[kind]
    output = compressed({"v": value}, **({"text_column": "v"} if kind == "text" else settings))
    assert main([str(output)]) == 0
    assert capsys.readouterr().out.endswith("tokens were counted again in 1 row\n")
    origin = json.loads(parts_of(output)[0].read_text())["origin_tokens"]
    rewritten(
        parts_of(output)[0],
        lambda rows: [{**rows[0], "compressed_tokens": 3, "rate": 3 / origin}],
    )
    assert main([str(output)]) == 1
    assert "compressed_tokens = 3, but what is kept has " in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_its_original_does_not_hold_is_found_in_every_kind_of_row(
    compressed: Callable[..., Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, settings = KINDS[kind]
    output = compressed({"v": value}, **({"text_column": "v"} if kind == "text" else settings))
    row = json.loads(parts_of(output)[0].read_text())
    texts = [f"{text}Q9" for text in row["compressed_context"]]
    rewritten(parts_of(output)[0], lambda rows: [{**rows[0], "compressed_context": texts}])
    assert main([str(output)]) == 1
    assert "is not what is left of it" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "text"])
def test_a_structured_value_is_made_of_what_is_left_of_its_texts(
    compressed: Callable[..., Path], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, settings = KINDS[kind]
    output = compressed({"v": value}, **settings)
    row = json.loads(parts_of(output)[0].read_text())
    assert row["status"] == "compressed"
    changed = next(letter for letter in row["compressed_prompt"] if letter.isalnum())
    text = row["compressed_prompt"].replace(changed, "Q", 1)
    rewritten(parts_of(output)[0], lambda rows: [{**rows[0], "compressed_prompt": text}])
    assert main([str(output)]) == 1
    assert "compressed_prompt is not its value with the texts of compressed_context" in capsys.readouterr().out


def test_why_tokens_are_not_counted_again_is_told(compressed: Callable[..., Path]) -> None:
    output = compressed({"text": PROSE})
    model = output.parent / "model"
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " ")
    replaced = verify(str(output))
    assert (replaced.problems, replaced.recounted) == ([], 0)
    assert "cannot be shown to be that of the run" in replaced.tokens
    shutil.rmtree(model)
    assert f"model '{model}': no such file or directory" in verify(str(output)).tokens


def test_a_tokenizer_of_the_hub_is_taken_from_the_cache_and_never_fetched(
    compressed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = compressed({"text": PROSE}, target_tokenizer=str(tmp_path / "model"))
    replanned(output, lambda content: content["settings"].update(target_tokenizer="some/tokenizer"))
    reseal(output)
    for name in ("socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "model 'some/tokenizer' is not on this machine" in verify(str(output)).tokens
    folder = tmp_path / "hub" / "models--some--tokenizer"
    shutil.copytree(tmp_path / "model", folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    audit = verify(str(output))
    assert (audit.problems, audit.recounted) == ([], 1)


def parts_of(output: Path) -> list[Path]:
    return sorted(output.glob("part-*"))
