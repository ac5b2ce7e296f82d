"""Anything at all as an input file, a configuration or a size: rows, rejects, or one clear error, and never a crash."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.config import JobConfig, parse_ceiling, parse_size
from cluster.errors import ClusterError, SourceUnusable
from cluster.input.cutting import plan_shards
from cluster.input.inputs import list_inputs
from cluster.input.parquet import open_parquet
from cluster.input.reader import read_rows
from cluster.input.shards import BadRow, Row, Source
from cluster.input.unify import _column_statistics
from cluster.output.ledger import Ledger
from cluster.output.plan import Plan
from cluster.output.prepare import make_plan
from cluster.output.records import Record
from cluster.output.verify import verify
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from tests.cluster.jobs_for_tests import job, run
from tests.fakes import FakeCompressor

few = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "15")), deadline=None, suppress_health_check=list(HealthCheck)
)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}

NAMES = sorted(JobConfig.settings())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(["text", "id", "x", ""]), values, max_size=4).map(
    lambda row: json.dumps(row).encode()
)
lines = st.lists(st.one_of(st.binary(max_size=30), documents, st.just(b'{"text": "a b c"}')), max_size=8)


def read_file(name: str, content: bytes, shard_size: int = 1024) -> list[Row | BadRow] | Exception:
    """The rows of a file of that content, or the one error that planning or reading it ends with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        storage, config = Storage(), job(path, Path(folder) / "out", shard_size=shard_size)
        try:
            plan = make_plan(config, "digest")
        except (ClusterError, ConfigError) as error:
            return error
        return [row for shard in plan.shards for row in read_rows(shard, plan.columns, storage)]


def require_rows_or_a_clear_error(found: list[Row | BadRow] | Exception) -> None:
    if isinstance(found, Exception):
        assert "rows.jsonl" in str(found) or "column" in str(found) or "rows.parquet" in str(found)
        return
    assert all(isinstance(row, Row) or (row.reason and row.detail) for row in found)
    numbers = [row.number for row in found]
    assert numbers == sorted(set(numbers))


@few
@given(st.sampled_from(sorted(PACK)), st.binary(max_size=200))
def test_any_bytes_as_json_lines_are_rows_rejects_or_one_clear_error(ending: str, content: bytes) -> None:
    require_rows_or_a_clear_error(read_file(f"rows.jsonl{ending}", content))


@few
@given(st.sampled_from(sorted(PACK)), lines, st.integers(0, 400), st.binary(max_size=3))
def test_json_lines_that_are_damaged_anywhere_are_rows_rejects_or_one_clear_error(
    ending: str, some: list[bytes], position: int, damage: bytes
) -> None:
    content = PACK[ending](b"\n".join(some))
    damaged = content[:position] + damage + content[position + len(damage) + 1 :]
    require_rows_or_a_clear_error(read_file(f"rows.jsonl{ending}", damaged))


@few
@given(lines, st.integers(1024, 2048))
def test_every_line_that_is_not_blank_has_one_outcome(some: list[bytes], shard_size: int) -> None:
    content = b'{"text": "one", "pad": "' + b"p" * 1500 + b'"}\n' + b"\n".join(some)
    found = read_file("rows.jsonl", content, shard_size)
    if isinstance(found, list):
        wanted = [number for number, line in enumerate(content.split(b"\n")) if line.strip()]
        assert [row.number for row in found] == wanted


def parquet_bytes(rows: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": pa.array(rows, pa.string()), "n": range(len(rows))}), sink, row_group_size=4)
    return bytes(sink.getvalue())


@few
@given(st.binary(max_size=200))
def test_any_bytes_as_parquet_are_one_clear_error(content: bytes) -> None:
    found = read_file("rows.parquet", content)
    assert isinstance(found, (SourceUnusable, ConfigError))
    assert "rows.parquet" in str(found)


@few
@given(st.lists(st.text(max_size=9), min_size=1, max_size=12), st.data())
def test_parquet_that_is_damaged_anywhere_gives_every_row_an_outcome_or_one_clear_error(
    rows: list[str], data: st.DataObject
) -> None:
    content = bytearray(parquet_bytes([row.replace("\ud800", "") for row in rows]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = read_file("rows.parquet", bytes(content))
    require_rows_or_a_clear_error(found)


@pytest.mark.parametrize(("bit", "message"), [(0x40, "histogram size mismatch"), (0x80, "codec can't decode")])
def test_a_footer_with_one_wrong_bit_is_read_or_told_and_ends_no_process(
    bit: int, message: str, tmp_path: Path
) -> None:
    content = parquet_bytes(["one"])
    path, footer = tmp_path / "rows.parquet", len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    told = []
    for position in range(footer, len(content) - 8):
        path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
        try:
            with open_parquet(Source(str(path), len(content), "v1", "parquet"), Storage()) as file:
                _column_statistics(file.metadata, 0, pa.string())
        except SourceUnusable as error:
            told.append(str(error))
    assert any(message in error for error in told)


@few
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_a_whole_job_over_any_lines_accounts_for_each_of_them(some: list[bytes]) -> None:
    content = b'{"text": "one two three"}\n' + b"\n".join(some)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.jsonl").write_bytes(content)
        config = job(Path(folder) / "rows.jsonl", Path(folder) / "out")
        with suppress(ConfigError, ClusterError):
            run(config)
            audit = verify(config.output)
            assert audit.problems == []
            assert audit.rows == sum(bool(line.strip()) for line in content.split(b"\n"))
            assert sum(record.rows for record in Ledger(config.output).records()) == audit.rows


# ---- settings


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(["1%", "32MiB"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=5,
)


@few
@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=6)), yaml_values, max_size=4))
def test_any_yaml_settings_are_a_configuration_or_a_setting_error(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        load(["--config", str(path)])


@few
@given(st.binary(max_size=80))
def test_any_bytes_as_a_configuration_are_settings_or_a_setting_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_bytes(content)
        load(["--config", str(path)])


@few
@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=12), max_size=4))
def test_any_environment_is_settings_or_a_setting_error(content: dict[str, str]) -> None:
    with suppress(ConfigError):
        JobConfig.load(["--input", "in", "--output", "/out"], {f"LINGUA_{k.upper()}": v for k, v in content.items()})


def load(flags: list[str]) -> None:
    with suppress(ConfigError):
        config = JobConfig.load(["--input", "in.jsonl", "--output", "/out", *flags], {})
        json.dumps(config.shown_settings())
        json.dumps(config.identity_settings())


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,40}(\.[0-9]+)?[kKmMgG]?[iI]?[bB%]?", fullmatch=True)))
def test_any_text_is_a_size_or_a_ceiling_or_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_ceiling):
        with suppress(ValueError):
            parsed = parse(text)
            assert isinstance(parsed, (int, float))
            assert parsed >= 0


# ---- shards, plans, records


@few
@given(st.lists(st.binary(max_size=900), max_size=12), st.integers(1, 4000))
def test_shards_of_any_size_cover_every_byte_once_and_begin_at_lines(some: list[bytes], shard_size: int) -> None:
    content = b"\n".join(some)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(content)
        storage = Storage()
        sources = [Source(str(path), len(content), "v1", "jsonl")]  # whatever it holds: lines are what is cut
        shards = plan_shards(sources, shard_size, storage)
        again = plan_shards(sources, shard_size, storage)
    assert shards == again
    assert b"".join(content[shard.start : shard.end] for shard in shards) == content
    assert all(shard.start == 0 or content[shard.start - 1] == 10 for shard in shards)
    assert [shard.first_row for shard in shards] == [content[: shard.start].count(b"\n") for shard in shards]
    assert len({shard.name for shard in shards}) == len(shards)


@few
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 3000))
def test_parquet_shards_of_any_size_hold_every_row_once(groups: list[int], shard_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for rows in groups:
                writer.write_table(pa.table({"text": ["x" * 30] * rows}, schema))
        storage = Storage()
        shards = plan_shards(list_inputs([str(path)], storage).sources, shard_size, storage)
    covered = [row for shard in shards for row in range(shard.start, shard.end)]
    assert covered == list(range(sum(groups)))


@pytest.mark.parametrize("read", [lambda data: Plan.from_bytes(data, "_plan.json"), Record.from_bytes])
def test_any_bytes_as_a_plan_or_a_record_are_one_error(read: Callable[[bytes], object]) -> None:
    @few
    @given(st.one_of(st.binary(max_size=60), values.map(lambda value: json.dumps(value).encode())))
    def check(data: bytes) -> None:
        with pytest.raises((ValueError, ClusterError)):
            read(data)

    check()


def test_nesting_without_end_is_one_error_everywhere(tmp_path: Path) -> None:
    deep = b"[" * 50_000
    (tmp_path / "job.yaml").write_bytes(deep[:500])
    load(["--config", str(tmp_path / "job.yaml")])
    with pytest.raises(ValueError, match="not a commit record"):
        Record.from_bytes(deep)
    with pytest.raises(ClusterError, match="damaged"):
        Plan.from_bytes(deep, "_plan.json")


def test_a_named_pipe_and_a_folder_of_nothing_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="there is no file in this directory"):
        make_plan(job(tmp_path, tmp_path / "out"), "digest")
    assert FakeCompressor().compress([]) == []
