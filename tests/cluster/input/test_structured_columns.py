"""Columns of conversations, tagged texts and JSON: each row's value comes back whole, only shorter."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import PlanConflict
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import make_plan
from cluster.output.summary import ShardSummary
from cluster.output.verify import verify
from cluster.protocol import Assignment, Failure, ShardReport
from cluster.report.dry_run import describe
from cluster.run.worker import Worker, load_compressor
from lingua.errors import ConfigError
from lingua.models.source import resolve
from lingua.prompt import CompressedPrompt, Outcome, Prompt
from lingua.structured.tags import Tags
from tests.cluster.jobs_for_tests import DIGEST, open_plan, rejects, write_lines
from tests.fakes import REJECT, FakeCompressor
from tests.models import fast_tokenizer, save
from tests.texts import NASTY, PROSE

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "You are brief and polite"},
    {"role": "user", "content": "one two three four five six"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "seven eight nine ten"},
    {"role": "user", "content": "And what is the newest question"},
]
SHORTER: list[dict[str, Any]] = [
    {"role": "system", "content": "You are brief and polite"},
    {"role": "user", "content": "onethreefive"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "sevennine"},
    {"role": "user", "content": "And what is the newest question"},
]
"""What the fake compressor makes of it: it keeps every second word and no white space."""
TAGGED = "Keep <llmlingua, compress=False>this as it is</llmlingua> and <llmlingua, rate=0.5>cut this a bit</llmlingua>"
RECORD = {"id": 7, "body": "one two three four", "tags": ["a b c d", None], "more": {"x": 1.5, "y": None}}


def fake(config: JobConfig) -> FakeCompressor:
    return FakeCompressor(config=config.compression)


def made(config: JobConfig, make: Callable[[JobConfig], Any] = fake, digest: str = DIGEST) -> Plan:
    """Plan a job and let one worker do all of it."""
    ledger = Ledger(config.output)
    plan = open_plan(config, digest, ledger)
    worker = Worker(config, plan, make)
    for shard in plan.shards:
        report = worker.attempt(Assignment(shard))
        assert isinstance(report, ShardReport), report
    return plan


def lines(folder: Path, values: Iterable[object], column: str = "value", **settings: Any) -> JobConfig:
    """A job over JSON Lines with these values in the column "value"."""
    path = write_lines(folder / "rows.jsonl", ({"n": n, "value": value} for n, value in enumerate(values)))
    return configured(path, column, **settings)


def parquet(folder: Path, values: Any, column: str, **settings: Any) -> JobConfig:
    """The same over Parquet."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    pq.write_table(pa.table({"n": list(range(len(array))), "value": array}), folder / "rows.parquet")
    return configured(folder / "rows.parquet", column, **settings)


def configured(path: Path, column: str, **settings: Any) -> JobConfig:
    chosen = {column: "value", "model": "fake", **settings}
    return JobConfig(input=str(path), output=str(path.parent / "out"), **chosen)


def rows(config: JobConfig) -> list[dict[str, Any]]:
    """All rows of the output, in order."""
    parts = sorted(Path(config.output).glob("part-*"))
    if config.output_format == "parquet":
        return [row for part in parts for row in pq.read_table(part).to_pylist()]
    return [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").splitlines()]


def prompts(config: JobConfig) -> list[str]:
    return [row["compressed_prompt"] for row in rows(config)]


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
def test_a_conversation_comes_back_with_its_ids_and_nulls_and_shorter_texts(tmp_path: Path, output_format: str) -> None:
    config = lines(tmp_path, [TALK, TALK[:2]], "messages_column", output_format=output_format)
    made(config)
    first, second = map(json.loads, prompts(config))
    assert first == SHORTER
    assert second == TALK[:2]  # its only user message is the newest one
    assert verify(config.output).problems == []


def test_json_text_of_a_conversation_gives_json_text(tmp_path: Path) -> None:
    config = lines(tmp_path, [json.dumps(TALK)], "messages_column")
    made(config)
    assert prompts(config) == [json.dumps(SHORTER, ensure_ascii=False)]


def test_an_object_that_holds_the_messages_comes_back_as_it_is_from_lines_and_from_structs(tmp_path: Path) -> None:
    value = {"id": "a", "conversations": [{"from": "human", "value": "a b c d"}, {"from": "human", "value": "and you"}]}
    for make in (lines, parquet):
        config = make(tmp_path, [value], "messages_column")
        made(config)
        (found,) = map(json.loads, prompts(config))
        assert found == {**value, "conversations": [{"from": "human", "value": "ac"}, value["conversations"][1]]}
        assert verify(config.output).problems == []
        shutil.rmtree(config.output)


def test_a_conversation_without_text_is_kept_and_has_no_rate(tmp_path: Path) -> None:
    model = tmp_path / "model"
    fast_tokenizer().save_pretrained(model)
    settings = {"model": str(model), "device": "cpu", "method": "random", "rate": 0.5, "output_format": "jsonl"}
    config = lines(tmp_path, [[], [{"role": "user", "content": "one question"}]], "messages_column", **settings)
    made(config, load_compressor, resolve(str(model)).digest)
    empty, single = rows(config)
    assert (empty["status"], empty["origin_tokens"], empty["rate"]) == ("kept", 0, None)
    assert (single["status"], single["rate"]) == ("kept", 1.0)
    assert verify(config.output).problems == []


def test_messages_as_python_prints_them_are_rejected_with_the_remedy(tmp_path: Path) -> None:
    config = lines(tmp_path, [str(TALK)], "messages_column", output_format="jsonl")
    made(config)
    (reject,) = rejects(config.output)
    assert reject["reason"] == "malformed_json"
    assert "json.dumps(value)" in reject["detail"]


def test_tags_say_what_is_kept_and_go(tmp_path: Path) -> None:
    config = lines(tmp_path, [TAGGED], "structured_column")
    made(config)
    assert prompts(config) == ["Keep this as it is and cuta"]


def test_json_keeps_its_keys_and_types_and_text_stays_text(tmp_path: Path) -> None:
    rules = {"body": "compress", "tags[]": "compress"}
    config = lines(tmp_path, [RECORD, json.dumps(RECORD, indent=2)], "json_column", json_rules=rules)
    made(config)
    nested, text = prompts(config)
    expected = {**RECORD, "body": "onethree", "tags": ["ac", None]}
    assert nested == json.dumps(expected)
    assert text == json.dumps(expected)


def test_arrow_structs_are_read_without_the_nulls_that_arrow_added_to_messages(tmp_path: Path) -> None:
    config = parquet(tmp_path, [TALK], "messages_column")
    made(config)
    (found,) = map(json.loads, prompts(config))
    assert found == [{key: item for key, item in message.items() if item is not None} for message in SHORTER]
    assert verify(config.output).problems == []


def test_arrow_structs_as_json_have_all_the_keys_of_their_type(tmp_path: Path) -> None:
    config = parquet(tmp_path, [RECORD, {"id": 8, "body": "a b c d"}], "json_column", json_rules={"body": "compress"})
    made(config)
    first, second = map(json.loads, prompts(config))
    assert first == {**RECORD, "body": "onethree"}
    assert second == {"id": 8, "body": "ac", "tags": None, "more": None}


def test_what_json_cannot_say_of_a_struct_is_text(tmp_path: Path) -> None:
    kind = pa.struct(
        [("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("ns")), ("raw", pa.binary())]
    )
    message = {"role": "user", "content": "hello you", "at": datetime.datetime(2024, 5, 6, 7), "raw": b"\0\xff"}
    config = parquet(tmp_path, pa.array([[message]], pa.list_(kind)), "messages_column")
    made(config)
    (found,) = json.loads(prompts(config)[0])
    assert found == {"role": "user", "content": "hello you", "at": "2024-05-06 07:00:00.000000000", "raw": "AP8="}
    assert verify(config.output).problems == []


def test_other_results_are_those_of_the_pieces(tmp_path: Path) -> None:
    config = lines(tmp_path, [TAGGED], "structured_column")
    made(config)
    (row,) = rows(config)
    assert row["value"] == TAGGED
    assert row["kept_context"] == list(range(len(row["compressed_context"])))
    assert (row["status"], row["origin_tokens"] > row["compressed_tokens"]) == ("compressed", True)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("structured_column", "a <llmlingua> b", "malformed_tag"),
        ("structured_column", ["a"], "wrong_type"),
        ("json_column", "{not json", "malformed_json"),
        ("json_column", 3, "wrong_type"),
        ("json_column", None, "null_text"),
        ("messages_column", [{"content": "no role"}], "wrong_type"),
        ("messages_column", {"role": "user"}, "wrong_type"),
        ("messages_column", "[", "malformed_json"),
        (
            "messages_column",
            [{"role": "user", "content": "a"}, {"role": "user", "content": f"{REJECT} x y"}],
            "asked_for",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_rejected_and_its_neighbours_are_not(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    good = {"structured_column": "a b c", "json_column": '{"a": "b"}', "messages_column": TALK}[column]
    config = lines(tmp_path, [good, value, good], column, output_format="jsonl")
    made(config)
    assert [(row["row"], row["reason"]) for row in rejects(config.output)] == [(1, reason)]
    assert [row["n"] for row in rows(config)] == [0, 2]
    assert verify(config.output).problems == []


@pytest.mark.parametrize("depth", [200, 400, 900])
@pytest.mark.parametrize("column", ["json_column", "messages_column"])
def test_a_deep_value_is_compressed_or_rejected_and_never_ends_the_worker(
    tmp_path: Path, column: str, depth: int
) -> None:
    deep = "[" * depth + '"a b c d e"' + "]" * depth
    value = deep if column == "json_column" else f'[{{"role": "user", "content": "x", "meta": {deep}}}]'
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"n": n, "value": text}) + "\n" for n, text in enumerate([value, '[{"role": "a"}]']))
    )
    config = configured(tmp_path / "rows.jsonl", column, output_format="jsonl")
    made(config)
    reasons = [row["reason"] for row in rejects(config.output)]
    assert reasons in ([], ["too_deep"])
    assert len(rows(config)) == 2 - len(reasons)
    assert verify(config.output).problems == []


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_nasty_text_comes_back_whole_in_every_kind(tmp_path: Path, text: str) -> None:
    for column, value in {
        "structured_column": f"<llmlingua, compress=False>{text}</llmlingua>",
        "json_column": {text: text},
        "messages_column": [{"role": "system", "content": text}],
    }.items():
        folder = tmp_path / column
        folder.mkdir()
        rules = {"json_rules": {"none": "compress"}} if column == "json_column" else {}
        config = lines(folder, [value], column, output_format="jsonl", **rules)
        made(config)
        (found,) = prompts(config)
        assert (found if column == "structured_column" else json.loads(found)) == (
            text if column == "structured_column" else value
        )


def test_a_lone_surrogate_in_json_is_written_as_its_escape(tmp_path: Path) -> None:
    config = lines(tmp_path, [{"a": "half \ud83d", "b": "é é é é"}], "json_column", output_format="jsonl")
    made(config)
    assert json.loads(prompts(config)[0]) == {"a": "half \ud83d", "b": "éé"}


def test_the_fingerprint_covers_the_value_and_its_kind(tmp_path: Path) -> None:
    values: Sequence[object] = [TALK, json.dumps(TALK), [dict(reversed(one.items())) for one in TALK], TALK[1:], TALK]
    found = []
    for column in ("messages_column", "json_column"):
        folder = tmp_path / column
        folder.mkdir()
        config = lines(folder, values, column, output_format="jsonl")
        made(config)
        *others, again = [row["fingerprint"] for row in rows(config)]
        assert again == others[0]
        found += others
    assert len(set(found)) == 8


def test_another_column_does_not_continue_the_output(tmp_path: Path) -> None:
    config = lines(tmp_path, [json.dumps(TALK)], "messages_column")
    made(config)
    with pytest.raises(PlanConflict, match='json_column was null, now "value"; messages_column was "value", now null'):
        open_plan(configured(tmp_path / "rows.jsonl", "json_column"), DIGEST, Ledger(config.output))


def test_a_stored_plan_knows_its_kind_again_and_the_dry_run_shows_it(tmp_path: Path) -> None:
    config = lines(tmp_path, [TALK], "messages_column")
    plan = make_plan(config, DIGEST)
    assert Plan.from_bytes(plan.to_bytes(), "plan") == plan
    assert "messages = 'value'" in describe(config, plan, set())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("messages", "json"), "json_column excludes messages_column"),
        (("text", "structured"), "text_column excludes structured_column"),
        (("json", "question"), "json_column excludes question_column"),
    ],
)
def test_a_row_is_one_thing(columns: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobConfig(input="in", output="out", **{f"{name}_column": name for name in columns})


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("structured_column", [["a"]], "must hold strings"),
        ("messages_column", [["a"]], "must hold lists of structs, or JSON text"),
        ("messages_column", [{"role": "user"}], "must hold lists of structs, or JSON text"),
        ("json_column", [1], "must hold JSON text, lists or structs"),
    ],
)
def test_a_column_that_cannot_hold_such_values_is_told_before_the_run(
    tmp_path: Path, column: str, values: list[object], wanted: str
) -> None:
    for config in (lines(tmp_path, values, column), parquet(tmp_path, values, column)):
        with pytest.raises(ConfigError, match=wanted):
            make_plan(config, DIGEST)


@pytest.mark.parametrize("output_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("odd", [["hi"], [3], [["a"]], "no JSON", 7, {"messages": ["hi"]}], ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_one_odd_value_of_a_sample_is_a_reject_and_stops_no_job(
    tmp_path: Path, odd: object, held: bool, output_format: str
) -> None:
    talk: object = {"messages": TALK} if held else TALK
    config = lines(tmp_path, [talk] * 3 + [odd], "messages_column", output_format=output_format)
    made(config)
    assert len(rows(config)) == 3
    (reject,) = rejects(Path(config.output))
    assert reject["row"] == 3
    assert verify(config.output).problems == []


def test_a_sample_shows_the_pieces_and_the_value_put_together(tmp_path: Path) -> None:
    config = lines(tmp_path, [TAGGED], "structured_column", report_samples=1)
    made(config)
    (file,) = (path for path in Path(config.output).rglob("*") if path.is_file() and b'"samples"' in path.read_bytes())
    (sample,) = ShardSummary.from_bytes(file.read_bytes()).samples
    assert "".join(piece.text for piece in sample.pieces) == "Keep this as it is and cut this a bit"
    assert sample.compressed == "Keep this as it is and cuta"


def test_the_real_compressor_compresses_each_kind_without_a_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    fast_tokenizer().save_pretrained(model)
    talk = [
        {"role": "user", "content": PROSE},
        {"role": "assistant", "content": PROSE},
        {"role": "user", "content": "?"},
    ]
    for column, value in {"messages_column": talk, "structured_column": PROSE, "json_column": {"text": PROSE}}.items():
        folder = tmp_path / column
        folder.mkdir()
        settings = {"model": str(model), "device": "cpu", "method": "random", "rate": 0.5}
        config = lines(folder, [value], column, **settings)
        made(config, load_compressor, resolve(str(model)).digest)
        (row,) = rows(config)
        assert 0.4 < row["rate"] < 0.52  # the newest question and the skeleton stay
        assert len(row["compressed_prompt"]) < 0.7 * len(json.dumps(value))
        if column == "messages_column":
            first, second, last = json.loads(row["compressed_prompt"])
            assert (first["role"], second["role"], last) == ("user", "assistant", talk[2])
        assert verify(config.output).problems == []


def test_a_tiny_model_gives_at_rate_1_what_came_in(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    config = lines(tmp_path, [TALK], "messages_column", model=str(model), device="cpu", dtype="float32", rate=1.0)
    made(config, load_compressor, resolve(str(model)).digest)
    assert json.loads(prompts(config)[0]) == TALK


class Hoarding(FakeCompressor):
    """Holds every prompt it is given before the first outcome, as an engine with room does."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        return super().stream(list(prompts))


def test_every_value_meets_its_own_outcome_whatever_is_rejected_between(tmp_path: Path) -> None:
    values = ["<llmlingua>" if n % 7 == 3 else f"row {n} has several words" for n in range(60)]
    config = lines(tmp_path, values, "structured_column", shard_size=1024)
    made(config, lambda config: Hoarding())
    assert prompts(config) == ["rowhaswords" for n in range(60) if n % 7 != 3]
    assert [row["n"] for row in rows(config)] == [n for n in range(60) if n % 7 != 3]


class Clumsy(Tags):
    """Cannot put one text together again."""

    def reassemble(self, value: str, outcome: CompressedPrompt) -> str:
        if "row 5 " in value:
            raise ValueError("dropped it")
        return super().reassemble(value, outcome)


def test_a_row_that_cannot_be_put_together_is_found_by_probing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.input.reader.structure_of", lambda kind, compression: Clumsy())
    config = lines(tmp_path, [f"row {n} has several words" for n in range(8)], "structured_column")
    plan = make_plan(config, DIGEST)
    worker = Worker(config, plan, lambda config: FakeCompressor())
    (shard,) = plan.shards
    failure = worker.attempt(Assignment(shard))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == ("crashed", "ValueError")
    assert isinstance(worker.attempt(Assignment(shard, probe=range(5, 6))), Failure)
    assert isinstance(worker.attempt(Assignment(shard, probe=range(5))), ShardReport)
