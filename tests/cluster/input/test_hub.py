"""Data sets by name: resolved to the hub's Parquet files, over a filesystem in memory that answers for the hub."""

from __future__ import annotations

import io
from collections.abc import Iterator

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cluster.config import JobConfig
from cluster.input.inputs import list_inputs
from cluster.input.reader import read_rows
from cluster.input.shards import Row
from cluster.output.prepare import make_plan
from cluster.storage.storage import Storage
from lingua.errors import ConfigError

NOW = Storage(pauses=())


class Hub(MemoryFileSystem):  # type: ignore[misc]
    """Paths like the hub's; `reachable` tells whether it answers."""

    protocol = "hf"
    root_marker = ""
    store: dict[str, object] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    reachable = True

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hf://").strip("/") if path.strip("/") else ""

    def unstrip_protocol(self, name: str) -> str:
        return "hf://" + name.lstrip("/")

    def find(self, path: str, maxdepth: int | None = None, **named: object) -> object:
        if not Hub.reachable:
            raise ConnectionError("offline mode is enabled")
        return super().find(path, maxdepth, **named)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with a data set of one configuration, one of two, and one that is too large."""
    from fsspec.registry import _registry, known_implementations

    before = _registry.get("hf"), known_implementations.get("hf")
    fsspec.register_implementation("hf", Hub, clobber=True)
    Hub.clear_instance_cache()
    Hub.store.clear()
    files = Hub()
    for path in (
        "org/one@refs/convert/parquet/default/train/0000.parquet",
        "org/one@refs/convert/parquet/default/train/0001.parquet",
        "org/one@refs/convert/parquet/default/test/0000.parquet",
        "org/two@refs/convert/parquet/en/train/0000.parquet",
        "org/two@refs/convert/parquet/de/train/0000.parquet",
        "org/large@refs/convert/parquet/default/partial-train/0000.parquet",
    ):
        data = io.BytesIO()
        pq.write_table(pa.table({"text": [f"a document of {path}"]}), data)
        files.pipe_file(f"/datasets/{path}", data.getvalue())
    yield files
    Hub.store.clear()
    _registry.pop("hf", None) if before[0] is None else _registry.update({"hf": before[0]})
    if before[1] is not None:
        known_implementations["hf"] = before[1]


def paths(name: str) -> list[str]:
    return [source.path.removeprefix("hf://datasets/") for source in list_inputs([name], NOW).sources]


def test_a_split_is_the_parquet_files_that_the_hub_made_of_it(hub: Hub) -> None:
    root = "org/one@refs/convert/parquet/default/train"
    assert paths("dataset:org/one:train") == [f"{root}/0000.parquet", f"{root}/0001.parquet"]
    assert paths("dataset:org/two:de:train") == ["org/two@refs/convert/parquet/de/train/0000.parquet"]


def test_its_rows_are_read_shard_by_shard(hub: Hub) -> None:
    plan = make_plan(JobConfig(input="dataset:org/one:train", output="/out", text_column="text"), "d")
    rows = [row for shard in plan.shards for row in read_rows(shard, plan.columns, NOW)]
    assert [row.values["text"][-12:] for row in rows if isinstance(row, Row)] == ["0000.parquet", "0001.parquet"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dataset:org/two:train", "has the configurations de, en; choose one: dataset:org/two:de:train"),
        ("dataset:org/large:train", "only its beginning is there as Parquet"),
        ("dataset:org/one:validation", r"not among what the hub has as Parquet \(default:test, default:train\)"),
        ("dataset:org/none:train", r"not among what the hub has as Parquet \(nothing\)"),
        ("dataset:org/one", "write dataset:ID:SPLIT or"),
        ("dataset:../../etc:train", "write dataset:ID:SPLIT or"),
        ("dataset:org/one:a:b:c", "write dataset:ID:SPLIT or"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(hub: Hub, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        paths(name)


def test_without_a_network_the_message_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "reachable", False)
    with pytest.raises(ConfigError, match=r"the hub cannot be reached .*offline mode.*give files on a disk"):
        paths("dataset:org/one:train")
