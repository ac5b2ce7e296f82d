"""A corpus that changes, run again with the earlier output at hand: the prompts that the model sees are counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import PlanConflict
from cluster.output import reuse as reusing
from cluster.output.ledger import Ledger
from cluster.output.prepare import make_plan
from cluster.output.records import Statistics
from cluster.output.reuse import open_previous
from cluster.output.verify import verify
from cluster.protocol import Assignment, ShardReport
from cluster.report.dry_run import reusable
from cluster.report.page import gather, render
from cluster.report.statistics import RunReport, facts
from cluster.run import worker
from cluster.run.worker import Worker
from cluster.storage.storage import Storage
from lingua.errors import ConfigError
from lingua.prompt import Outcome, Prompt
from lingua.structured.streams import StructuredFace
from tests.cluster.jobs_for_tests import open_plan
from tests.fakes import REJECT, FakeCompressor
from tests.s3server import S3Bucket

FILES, ROWS = 5, 60
FORMATS = ("parquet", "jsonl")
DIGEST = "d" * 64

Row = dict[str, Any]


@dataclass
class Counting(StructuredFace, FakeCompressor):
    """A compressor that remembers which prompts it was shown."""

    shown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        def seen() -> Iterator[Prompt]:
            for prompt in prompts:
                self.shown.append(prompt.text)
                yield prompt

        yield from super().stream(seen())

    def count(self, text: str) -> int:
        return len(text.split())


@dataclass
class Corpus:
    """Files of rows in a folder, and runs over it into new outputs."""

    folder: Path
    format: str

    def write(self, name: str, rows: list[Row]) -> None:
        path = self.folder / "in" / f"{name}.{self.format}"
        path.parent.mkdir(exist_ok=True)
        if self.format == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def path(self, name: str) -> Path:
        return self.folder / "in" / f"{name}.{self.format}"

    def fill(self) -> None:
        for number in range(FILES):
            self.write(f"file-{number}", rows_of(number))

    def config(self, output: str, **settings: Any) -> JobConfig:
        chosen = {"shard_size": 2048, "output_format": self.format, **settings}
        return JobConfig(input=str(self.folder / "in"), output=str(self.folder / output), **chosen)

    def run(self, output: str, reuse: str | None = None, shards: int | None = None, **settings: Any) -> Run:
        """A run of `shards` shards at most; all of them unless given."""
        reused = {} if reuse is None else {"reuse": str(self.folder / reuse)}
        return run(self.config(output, **reused, **settings), shards)


@dataclass(frozen=True)
class Run:
    """A run, what it left and what it showed to the model."""

    ledger: Ledger
    shown: list[str]
    statistics: Statistics
    loaded: bool

    def rows(self) -> list[Row]:
        files = sorted(Path(self.ledger.url).glob("part-*"))
        return [row for file in files for row in _read(file)]


def run(config: JobConfig, shards: int | None = None) -> Run:
    """What the job does, without leases and without Ray."""
    ledger, compressor = Ledger(config.output, config.storage_options), Counting()
    previous = open_previous(config, DIGEST)
    plan = open_plan(config, DIGEST, ledger)
    earlier = None
    if previous is not None:
        earlier = previous.earlier(plan, ledger.committed())
    light = replace(plan, shards=(), sources=())
    made = list[JobConfig]()
    worker = Worker(config, light, lambda config: made.append(config) or compressor, earlier=earlier)  # type: ignore[func-returns-value]
    missing = [shard for shard in plan.shards if shard.name not in ledger.committed()]
    for shard in missing[:shards]:
        report = worker.attempt(Assignment(shard))
        assert isinstance(report, ShardReport), report
    total = Statistics.over(ledger.records())
    ledger.write_stats(RunReport(len(plan.shards), total, total, 1.0).as_json(facts(config, plan)))
    return Run(ledger, compressor.shown, total, bool(made))


def rows_of(number: int) -> list[Row]:
    return [row_of(f"{number}-{index}", 1) for index in range(ROWS)]


def row_of(name: str, version: int, **columns: Any) -> Row:
    return {"id": name, "text": f"document {name} in version {version} says a few words too many", **columns}


def _read(file: Path) -> list[Row]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()  # type: ignore[no-any-return]
    return [json.loads(line) for line in file.read_text().splitlines()]


def texts(run: Run) -> list[tuple[str, str]]:
    return sorted((row["text"], row["compressed_prompt"]) for row in run.rows())


@pytest.fixture(params=FORMATS)
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path, request.param)
    made.fill()
    return made


def test_an_unchanged_corpus_costs_nothing_and_gives_the_same_bytes(corpus: Corpus) -> None:
    first, second = corpus.run("one"), corpus.run("two", reuse="one")
    assert len(first.shown) == FILES * ROWS
    assert (first.loaded, second.loaded, second.shown) == (True, False, [])
    assert (second.statistics.reused, second.statistics.reused_shards) == (FILES * ROWS, first.statistics.shards)
    parts = {path.name: path.read_bytes() for path in Path(first.ledger.url).glob("part-*")}
    assert parts == {path.name: path.read_bytes() for path in Path(second.ledger.url).glob("part-*")}
    assert verify(second.ledger.url).problems == []


def test_a_change_of_one_percent_costs_one_percent(corpus: Corpus) -> None:
    corpus.run("one")
    changed = rows_of(4)
    for index in (17, 18, 59):
        changed[index] = row_of(f"4-{index}", 2)
    corpus.write("file-4", changed)
    second = corpus.run("two", reuse="one")
    assert len(second.shown) == FILES * ROWS // 100
    assert all("version 2" in text for text in second.shown)
    assert second.statistics.reused == FILES * ROWS - 3
    assert 0 < second.statistics.reused_shards < second.statistics.shards
    assert verify(second.ledger.url).problems == []
    assert texts(second) == texts(corpus.run("whole"))


def test_rows_that_moved_within_their_file_are_found_and_deleted_ones_are_gone(corpus: Corpus) -> None:
    corpus.run("one")
    rows = [row_of("new", 1), *reversed(rows_of(2)[5:])]
    corpus.write("file-2", rows)
    corpus.path("file-3").unlink()
    second = corpus.run("two", reuse="one")
    assert second.shown == [row_of("new", 1)["text"]]
    assert {row["id"] for row in second.rows()} == {
        "new",
        *(row["id"] for number in range(FILES) if number != 3 for row in rows_of(number)[5 if number == 2 else 0 :]),
    }
    assert verify(second.ledger.url).problems == []


def test_files_that_were_renamed_cost_nothing_and_their_parts_get_new_names(corpus: Corpus) -> None:
    first = corpus.run("one")
    corpus.path("file-0").rename(corpus.path("zz-renamed"))
    corpus.path("file-1").rename(corpus.path("aa-renamed"))
    second = corpus.run("two", reuse="one")
    assert second.shown == []
    assert texts(second) == texts(first)
    assert {record.shard.source.path for record in second.ledger.records()} >= {str(corpus.path("aa-renamed"))}
    assert verify(second.ledger.url).problems == []


def test_other_columns_come_from_the_new_input_and_may_be_new_ones(corpus: Corpus) -> None:
    corpus.run("one")
    for number in range(FILES):
        corpus.write(f"file-{number}", [{**row, "checked": row["id"] + "!"} for row in rows_of(number)])
    second = corpus.run("two", reuse="one", output_prefix="llm_", shard_size=4096)
    assert second.shown == []
    assert all(row["checked"] == row["id"] + "!" and row["llm_compressed_prompt"] for row in second.rows())
    assert verify(second.ledger.url).problems == []


def test_rows_are_reused_across_output_formats(corpus: Corpus) -> None:
    corpus.run("one")
    other = next(name for name in FORMATS if name != corpus.format)
    second = corpus.run("two", reuse="one", output_format=other)
    assert second.shown == []
    assert second.statistics.reused == FILES * ROWS
    assert verify(second.ledger.url).problems == []


def test_rejected_rows_are_tried_again_in_changed_and_unchanged_files(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    for number in (0, 1):
        corpus.write(f"file-{number}", [*rows_of(number), {"id": "bad", "text": f"{REJECT} {number}"}])
    first = corpus.run("one")
    corpus.write("file-1", [*rows_of(1), {"id": "bad", "text": f"{REJECT} 1"}, row_of("new", 1)])
    second = corpus.run("two", reuse="one")
    assert second.shown == [f"{REJECT} 0", f"{REJECT} 1", row_of("new", 1)["text"]]
    assert (first.statistics.rejects, second.statistics.rejects) == ({"asked_for": 2}, {"asked_for": 2})
    assert verify(second.ledger.url).problems == []


def test_a_chain_of_snapshots_reuses_what_was_reused(corpus: Corpus) -> None:
    corpus.run("one")
    corpus.write("file-4", [*rows_of(4), row_of("new", 1)])
    corpus.run("two", reuse="one")
    third = corpus.run("three", reuse="two")
    assert third.shown == []
    assert third.statistics.reused == FILES * ROWS + 1


def test_an_earlier_output_that_was_never_finished_is_reused_as_far_as_it_goes(corpus: Corpus) -> None:
    first = corpus.run("one", shards=5)
    second = corpus.run("two", reuse="one")
    assert len(first.shown) + len(second.shown) == FILES * ROWS
    assert verify(second.ledger.url).problems == []


def test_a_run_that_was_killed_goes_on_with_or_without_the_earlier_output(corpus: Corpus) -> None:
    corpus.run("one")
    for number in range(3):
        corpus.write(f"file-{number}", [row_of("new", number), *rows_of(number)])
    half = corpus.run("two", reuse="one", shards=4)
    rest = corpus.run("two", reuse="one")
    assert len(half.shown) + len(rest.shown) == 3
    assert verify(rest.ledger.url).problems == []
    corpus.run("three", reuse="one", shards=4)
    assert verify(corpus.run("three").ledger.url).problems == []


@pytest.mark.parametrize("call", ["create", "write"])
def test_a_kill_at_any_moment_of_taking_over_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    corpus.write("file-0", [*rows_of(0), {"id": "bad", "text": f"{REJECT} 0"}])
    whole, killed = corpus.run("one"), 0
    for moment in range(1, 12):
        with monkeypatch.context() as patch:
            patch.setattr(Storage, call, dying(getattr(Storage, call), moment))
            try:
                corpus.run(f"out-{moment}", reuse="one")
            except KeyboardInterrupt:
                killed += 1
            else:
                break  # there were no more moments
        second = corpus.run(f"out-{moment}", reuse="one")
        assert texts(second) == texts(whole)
        assert verify(second.ledger.url).problems == []
    assert killed > 2


def dying(method: Callable[..., Any], moment: int) -> Callable[..., Any]:
    calls = iter(range(1, 1 << 30))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == moment:
            raise KeyboardInterrupt
        return method(*arguments, **named)

    return call


def test_a_damaged_part_is_compressed_again(corpus: Corpus) -> None:
    first = corpus.run("one")
    part = min(Path(first.ledger.url).glob("part-*"))
    rows = len(_read(part))
    part.write_bytes(part.read_bytes().replace(b"document", b"DOCUMENT").replace(b"says", b"SAYS") + b" ")
    second = corpus.run("two", reuse="one")
    assert len(second.shown) == rows
    assert verify(second.ledger.url).problems == []


def test_lines_with_numbers_that_python_does_not_hold_are_reused(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    corpus.write("a", [{"text": "one two three"}])
    line = f'{{"text": "four five six", "n": {"7" * 5000}}}\n'
    with corpus.path("a").open("a") as file:
        file.write(line)
    corpus.run("first")
    with corpus.path("a").open("a") as file:
        file.write('{"text": "seven eight nine"}\n')
    again = corpus.run("second", reuse="first")
    assert again.shown == ["seven eight nine"]
    parts = sorted(Path(again.ledger.url).glob("part-*"))
    assert "".join(part.read_text() for part in parts).splitlines()[1].startswith(line[:-2])


def test_another_rate_is_refused_by_name_before_anything_is_written(corpus: Corpus) -> None:
    corpus.run("one")
    with pytest.raises(
        PlanConflict, match=r"nothing of it can be used: rate was 0\.5, now 0\.3; use the same"
    ) as error:
        corpus.run("two", reuse="one", rate=0.3)
    assert str(corpus.folder / "one") in str(error.value)
    assert not (corpus.folder / "two").exists()


def test_another_model_is_refused(corpus: Corpus) -> None:
    corpus.run("one")
    with pytest.raises(PlanConflict, match="model was smollm2-135m"):
        open_previous(corpus.config("two", reuse=str(corpus.folder / "one")), "e" * 64)


def test_a_folder_that_is_no_output_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"reuse = .*nowhere: has no _plan\.json"):
        corpus.run("two", reuse="nowhere")


def test_an_output_cannot_reuse_itself_and_urls_carry_no_credentials(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="reuse names the output itself"):
        corpus.config("two", reuse=str(corpus.folder / "two"))
    with pytest.raises(ConfigError, match="carries credentials"):
        corpus.config("two", reuse="s3://user:secret@bucket/one")


def test_statistics_summary_and_report_say_how_much_was_reused(corpus: Corpus) -> None:
    corpus.run("one")
    corpus.write("file-0", [row_of("new", 1), *rows_of(0)])
    second = corpus.run("two", reuse="one")
    stored = second.ledger.statistics()["reused"]
    assert stored == {
        "shards": second.statistics.reused_shards,
        "rows": FILES * ROWS,
        "tokens": second.statistics.origin_tokens - len(row_of("new", 1)["text"].split()),
    }
    summary = RunReport(second.statistics.shards, second.statistics, second.statistics, 1.0).summary()
    assert f"reused     {FILES * ROWS} of {FILES * ROWS + 1} rows" in summary
    page = render(gather(second.ledger))
    assert "were reused from an earlier output" in page
    assert "were reused" not in render(gather(Ledger(str(corpus.folder / "one"))))


def test_of_more_rows_than_fit_the_nearest_are_known(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.run("one")
    monkeypatch.setattr(reusing, "MAX_ROWS", 25)
    corpus.write("file-0", [*rows_of(0), row_of("new", 1)])
    second = corpus.run("two", reuse="one", shard_size=2048)
    assert 1 <= len(second.shown) < FILES * ROWS // 4
    assert verify(second.ledger.url).problems == []


def test_results_are_fetched_window_by_window_and_block_by_block(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.output.reuse.BLOCK_BYTES", 500)
    monkeypatch.setattr("cluster.input.shards.WINDOW_ROWS", 7)
    corpus.run("one")
    corpus.write("file-0", [*reversed(rows_of(0)), row_of("new", 1)])
    assert corpus.run("two", reuse="one").shown == [row_of("new", 1)["text"]]


def test_rows_of_the_same_half_fingerprint_are_not_confused(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    first = corpus.run("one")
    monkeypatch.setattr(reusing, "_HALF", 1)
    corpus.write("file-0", [*rows_of(0), row_of("new", 1)])
    second = corpus.run("two", reuse="one")
    assert set(texts(second)) > set(texts(first))
    assert verify(second.ledger.url).problems == []


def test_known_rows_behind_a_new_one_do_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(tmp_path, "jsonl")
    corpus.write("file-0", rows_of(0))
    corpus.run("one", shard_size="1MiB")
    corpus.write("file-0", [row_of("new", 1), *rows_of(0)])
    held: list[int] = []
    monkeypatch.setattr("cluster.run.worker.MAX_READY", 1000)
    add = worker._Waiting.add

    def noted(waiting: Any, *arguments: Any) -> None:
        add(waiting, *arguments)
        held.append(waiting.ready)

    monkeypatch.setattr("cluster.run.worker._Waiting.add", noted)
    second = corpus.run("two", reuse="one", shard_size="1MiB")
    assert second.shown == [row_of("new", 1)["text"]]
    assert 0 < max(held) < 1300
    assert verify(second.ledger.url).problems == []


def test_of_a_glob_the_last_complete_output_by_name_is_reused(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    first = corpus.run("day-1", reuse="day-*")
    assert len(first.shown) == FILES * ROWS
    assert "No complete output among" in capsys.readouterr().out
    corpus.run("day-2", reuse="day-*")
    corpus.run("day-3", shards=2)  # never completed
    found = open_previous(corpus.config("day-2", reuse=str(corpus.folder / "day-*")), DIGEST)
    assert found is not None
    assert found.ledger.url.endswith("day-1")  # never the output itself
    fourth = corpus.run("day-4", reuse="day-*")
    assert (fourth.shown, fourth.statistics.reused) == ([], FILES * ROWS)
    chosen = open_previous(corpus.config("day-5", reuse=str(corpus.folder / "day-?")), DIGEST)
    assert chosen is not None
    assert chosen.ledger.url.endswith("day-4")


def test_the_dry_run_foresees_what_the_run_reuses(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.run("one")

    def words() -> str:
        config = corpus.config("two", reuse=str(corpus.folder / "one"))
        previous, plan = open_previous(config, DIGEST), make_plan(config, DIGEST)
        assert previous is not None
        return reusable(previous, plan, set())

    assert words().endswith(f": {FILES * ROWS} of {FILES * ROWS} rows reused; 0 to compress")
    corpus.write("file-4", [*rows_of(4)[1:], row_of("new", 1), row_of("newer", 1)])
    assert words().endswith(f": {FILES * ROWS - 1} of {FILES * ROWS + 1} rows reused; 2 to compress")
    assert not (corpus.folder / "two").exists()
    assert len(corpus.run("two", reuse="one").shown) == 2
    monkeypatch.setattr("cluster.report.dry_run.LOOKED_AT", 1)
    corpus.write("file-3", rows_of(3))
    assert re.search(r"about \d+\.\d% of the rows reused \(1 of \d+ changed shards were looked at\)", words())


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("messages_column", lambda text: [{"role": "user", "content": text}, {"role": "user", "content": "Newest?"}]),
        ("structured_column", lambda text: f"Keep <llmlingua, compress=False>this</llmlingua> {text}"),
        ("json_column", lambda text: {"id": 7, "body": text}),
    ],
)
def test_rows_of_structured_values_are_reused_too(
    tmp_path: Path, output_format: str, column: str, value: Callable[[str], object]
) -> None:
    def written(texts: Iterable[str]) -> None:
        rows = [{"id": index, "value": value(text)} for index, text in enumerate(texts)]
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def snapshot(output: str, reuse: str | None) -> Run:
        named = {} if reuse is None else {"reuse": str(tmp_path / reuse)}
        settings = {column: "value", "output_format": output_format, "shard_size": 2048, **named}
        return run(JobConfig(input=str(tmp_path / "in.jsonl"), output=str(tmp_path / output), **settings))

    texts = [f"document {number} of many words that can be cut" for number in range(60)]
    written(texts)
    first = snapshot("one", None)
    assert len(first.shown) == 60
    assert snapshot("same", "one").shown == []
    written([*texts[:30], "a text that nobody has seen before now", *texts[31:]])
    second = snapshot("two", "one")
    assert len(second.shown) == 1
    assert "nobody" in second.shown[0]
    results = [[{**row, "id": 0, "value": 0} for row in snap.rows()] for snap in (first, second)]
    assert results[0][:30] + results[0][31:] == results[1][:30] + results[1][31:]
    assert verify(second.ledger.url).problems == []


def test_an_output_in_an_object_store_is_reused(tmp_path: Path, s3: S3Bucket) -> None:
    corpus = Corpus(tmp_path, "parquet")
    corpus.write("file-0", rows_of(0))
    corpus.write("file-1", rows_of(1))
    settings = {"input": str(tmp_path / "in"), "storage_options": s3.storage_options, "shard_size": 2048}
    run(JobConfig(**settings, output=f"{s3.url}/one"))
    corpus.write("file-1", [*rows_of(1), row_of("new", 1)])
    second = run(JobConfig(**settings, output=f"{s3.url}/two", reuse=f"{s3.url}/one"))
    assert second.shown == [row_of("new", 1)["text"]]
    assert verify(second.ledger.url, s3.storage_options).problems == []
