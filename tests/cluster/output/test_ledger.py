"""Plan, commits and lease: what is published is committed, and nothing goes on under another name."""

from __future__ import annotations

import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.errors import AbortRun, DamagedFile, LeaseError, PlanConflict
from cluster.input.columns import prompt_content
from cluster.input.reader import read_rows
from cluster.input.shards import Shard
from cluster.output.folder import RunFolder
from cluster.output.ledger import Ledger
from cluster.output.parts import PartWriter
from cluster.output.plan import Identity, Plan
from cluster.output.prepare import make_plan
from cluster.output.verify import verify
from cluster.storage.local import TEMPORARY
from lingua.errors import ConfigError
from lingua.prompt import Prompt
from tests.cluster.jobs_for_tests import DIGEST, acquire_lease, job, open_plan, rejects, run, run_shard, write_lines
from tests.fakes import REJECT, FakeCompressor
from tests.s3server import S3Bucket

ROWS = [{"id": number, "text": f"row {number} has some words"} for number in range(80)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl", [*ROWS, {"id": 80, "text": REJECT}])


def test_a_second_start_finds_what_is_done(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out", shard_size=1024)
    plan = make_plan(config, DIGEST)
    assert len(plan.shards) > 2
    first = plan.shards[0].name
    run(config, only={first})
    ledger = Ledger(config.output)
    assert ledger.committed() == {first}
    again = run(config)
    assert again == ledger.plan()
    assert ledger.committed() == {shard.name for shard in plan.shards}
    assert run_shard(again, again.shards[0], ledger) == "committed"  # byte for byte the same: ours


def test_records_count_what_became_of_every_row(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out", shard_size=1024)
    plan = run(config)
    records = Ledger(config.output).records()
    assert [record.shard for record in records] == list(plan.shards)
    assert sum(record.rows for record in records) == 81
    assert sum(record.compressed for record in records) == 80
    assert [dict(record.rejects) for record in records if record.rejected] == [{"asked_for": 1}]
    assert rejects(config.output)[0]["row"] == 80


def other_part(plan: Plan, shard: Shard, ledger: Ledger, text: str) -> str:
    """Commit a part whose rows were compressed to `text` words by an attempt with other numbers."""
    columns, compressor = plan.columns, FakeCompressor()
    with PartWriter(plan, shard) as writer:
        for item in read_rows(shard, columns, ledger.storage):
            prompt = columns.prompt({"text": text})
            writer.add(item, compressor.compress([prompt])[0])
        return ledger.commit(plan, shard, writer.finish(), 0.1)


def test_the_first_of_two_different_attempts_stays_with_its_own_record(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out")
    plan = run(config)
    (shard,) = plan.shards
    ledger = Ledger(config.output)
    before = ledger.records()
    assert other_part(plan, shard, ledger, "an other text") == "already"
    assert ledger.records() == before
    assert before[0].part_sha256 == ledger.checksum(ledger.part_url(plan, shard))


def test_what_an_attempt_left_that_died_before_its_part_is_not_counted(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out")
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    (shard,) = plan.shards
    assert other_part(plan, shard, ledger, "an other text") == "committed"
    Path(ledger.part_url(plan, shard)).unlink()  # died in between
    assert ledger.committed() == set()
    assert ledger.records() == []
    assert run_shard(plan, shard, ledger) == "committed"
    (record,) = ledger.records()
    assert record.rejected == 1
    (Path(config.output) / "_records" / f"{TEMPORARY}1-x").touch()
    ledger.clean()
    assert len(list((Path(config.output) / "_records").iterdir())) == 1
    assert ledger.records() == [record]


def test_racing_attempts_commit_one_part(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out")
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    (shard,) = plan.shards
    texts = [f"text {'word ' * number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda text: other_part(plan, shard, ledger, text), texts))
    assert sorted(outcomes) == ["already"] * 7 + ["committed"]
    (record,) = ledger.records()
    assert record.part_sha256 == ledger.checksum(ledger.part_url(plan, shard))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.3}, "rate was 0.5, now 0.3"),
        ({"shard_size": 2048}, "shard_size was 33554432, now 2048"),
        ({"id_column": "id"}, 'id_column was null, now "id"'),
        ({"force_tokens": ("!",)}, r'force_tokens was \[\], now \["!"\]'),
    ],
)
def test_other_settings_do_not_go_on(corpus: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run(job(corpus, tmp_path / "out"))
    with pytest.raises(PlanConflict, match=message):
        run(job(corpus, tmp_path / "out", **change))


def test_a_plan_with_nothing_committed_gives_way_to_the_corrected_command(corpus: Path, tmp_path: Path) -> None:
    run(job(corpus, tmp_path / "out"), only=())
    run(job(corpus, tmp_path / "out", rate=0.3))
    assert Ledger(str(tmp_path / "out")).plan().identity.settings["rate"] == 0.3  # type: ignore[union-attr]
    assert verify(str(tmp_path / "out")).problems == []
    with pytest.raises(PlanConflict, match=r"rate was 0\.3, now 0\.5"):
        run(job(corpus, tmp_path / "out"))


def test_a_part_without_its_record_keeps_its_plan(corpus: Path, tmp_path: Path) -> None:
    run(job(corpus, tmp_path / "out"))
    for record in (tmp_path / "out" / "_records").iterdir():
        record.unlink()
    with pytest.raises(PlanConflict, match="rate was"):
        run(job(corpus, tmp_path / "out", rate=0.3))


def test_a_damaged_plan_is_written_again_where_nothing_is_committed(corpus: Path, tmp_path: Path) -> None:
    run(job(corpus, tmp_path / "out"), only=())
    (tmp_path / "out" / "_plan.json").write_text("{")
    run(job(corpus, tmp_path / "out"))
    (tmp_path / "out" / "_plan.json").write_text("{")
    with pytest.raises(PlanConflict, match="damaged"):
        run(job(corpus, tmp_path / "out"))


def test_the_plan_of_another_job_is_never_replaced(corpus: Path, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "out"), "jobs.evaluate")
    folder.begin({"sizes": [0.5], "model_digest": DIGEST})
    before = folder.read("_plan.json")
    with pytest.raises(AbortRun, match=r"_plan\.json is the plan of another job, .* choose another output"):
        run(job(corpus, tmp_path / "out"))
    assert folder.read("_plan.json") == before


def test_another_model_does_not_go_on(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out")
    run(config)
    with pytest.raises(PlanConflict, match=r"model was fake \(dddddddddddd\), now fake \(eeeeeeeeeeee\)"):
        open_plan(config, "e" * 64, Ledger(config.output))


def test_other_inputs_do_not_go_on(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first = write_lines(tmp_path / "in" / "a.jsonl", ROWS)
    config = job(tmp_path / "in", tmp_path / "out")
    run(config)
    write_lines(tmp_path / "in" / "b.jsonl", ROWS)
    with pytest.raises(PlanConflict, match=r"input .*b\.jsonl is new"):
        run(config)
    (tmp_path / "in" / "b.jsonl").unlink()
    write_lines(first, ROWS[1:])
    with pytest.raises(PlanConflict, match=r"input .*a\.jsonl had \d+ bytes \(mtime.*now \d+"):
        run(config)


def test_settings_that_do_not_decide_the_content_may_change(corpus: Path, tmp_path: Path) -> None:
    run(job(corpus, tmp_path / "out", workers=1))
    run(job(corpus, tmp_path / "out", workers=7, device="cpu", shard_timeout=9))


def test_a_folder_with_other_files_is_not_an_output(corpus: Path) -> None:
    (corpus.parent / "mine" / "empty").mkdir(parents=True)
    (corpus.parent / "mine" / "old").mkdir()
    (corpus.parent / "mine" / "old" / "notes.txt").write_text("not to be mixed with parts")
    with pytest.raises(PlanConflict, match=r"holds old/notes\.txt and no _plan\.json"):
        run(job(corpus, corpus.parent / "mine"))
    (corpus.parent / "mine" / "old" / "notes.txt").rename(corpus.parent / "mine" / "notes.txt")
    with pytest.raises(PlanConflict, match=r"holds notes\.txt and no _plan\.json"):
        run(job(corpus, corpus.parent / "mine"))
    (corpus.parent / "mine" / "notes.txt").unlink()
    run(job(corpus, corpus.parent / "mine"))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"format": 99}'])
def test_a_damaged_plan_is_told(corpus: Path, tmp_path: Path, content: bytes) -> None:
    config = job(corpus, tmp_path / "out")
    run(config)
    (tmp_path / "out" / "_plan.json").write_bytes(content)
    with pytest.raises(PlanConflict, match=r"_plan\.json (is damaged|has plan format)"):
        run(config)


def test_the_plan_survives_its_file_and_names_no_secret(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out", storage_options={"secret": "very-secret"})
    plan = run(config)
    content = (tmp_path / "out" / "_plan.json").read_bytes()
    assert b"very-secret" not in content
    assert Plan.from_bytes(content, "here") == plan


def test_an_output_that_cannot_hold_commits_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot create a file only if it is absent"):
        Ledger("hf://datasets/someone/something")


def test_fingerprints_tell_content_settings_and_model_apart(corpus: Path, tmp_path: Path) -> None:
    base = Identity.of(job(corpus, tmp_path / "out"), DIGEST)
    others = [
        base.fingerprint(prompt_content(Prompt(context=("b",)))),
        base.fingerprint(prompt_content(Prompt(question="a"))),
        Identity.of(job(corpus, tmp_path / "out", rate=0.1), DIGEST).fingerprint(
            prompt_content(Prompt(context=("a",)))
        ),
        Identity.of(job(corpus, tmp_path / "out"), "e" * 64).fingerprint(prompt_content(Prompt(context=("a",)))),
    ]
    mine = base.fingerprint(prompt_content(Prompt(context=("a",))))
    assert mine not in others
    assert mine == Identity.of(job(corpus, tmp_path / "x", workers=3), DIGEST).fingerprint(
        prompt_content(Prompt(context=("a",)))
    )


# ---- the lease


@pytest.fixture(params=["disk", "s3"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    if request.param == "disk":
        return Ledger(str(tmp_path / "out"))
    bucket: S3Bucket = request.getfixturevalue("s3")
    return Ledger(f"{bucket.url}/out", bucket.storage_options)


def test_a_second_driver_is_told_who_holds_the_lease_and_since_when(ledger: Ledger) -> None:
    lease = acquire_lease(ledger, "first", 60)
    with pytest.raises(LeaseError, match=r"in use by first \(process \d+ on .+\) since 20\d\d-.*runs out"):
        acquire_lease(ledger, "second", 60)
    lease.renew()
    lease.release()
    acquire_lease(ledger, "second", 60).release()


def test_of_many_drivers_one_gets_the_lease(ledger: Ledger) -> None:
    together = threading.Barrier(8)

    def acquire(number: int) -> bool:
        together.wait()
        try:
            acquire_lease(ledger, f"driver {number}", 60)
        except LeaseError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(acquire, range(8))).count(True) == 1


def test_a_dead_holder_is_replaced_and_told_when_it_wakes_up(ledger: Ledger) -> None:
    dead = acquire_lease(ledger, "dead", -1)
    heir = acquire_lease(ledger, "heir", 60)
    with pytest.raises(LeaseError, match=r"taken over by heir"):
        dead.renew()
    dead.release()
    heir.renew()
    heir.release()
    with pytest.raises(LeaseError, match="taken over"):
        heir.renew()


def test_a_whole_job_runs_from_s3_to_s3(s3: S3Bucket) -> None:
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    s3.files.pipe_file(f"{s3.url}/in/a.jsonl", content)
    s3.files.pipe_file(f"{s3.url}/in/b.jsonl", content)
    config = job(f"{s3.url}/in/*.jsonl", f"{s3.url}/out", shard_size=1024, storage_options=s3.storage_options)
    plan = run(config)
    ledger = Ledger(config.output, config.storage_options)
    assert ledger.committed() == {shard.name for shard in plan.shards}
    rows = 0
    for shard in plan.shards:
        with s3.files.open(ledger.part_url(plan, shard)) as part:
            rows += pq.read_table(part).num_rows
    assert rows == 160
    assert "test-secret-key" not in s3.files.cat_file(f"{s3.url}/out/_plan.json").decode()
    ledger.clean()
    assert run(config) == plan


def test_nothing_is_written_to_an_output_that_was_deleted_meanwhile(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out", shard_size=1024)
    ledger = Ledger(config.output)
    plan = open_plan(config, DIGEST, ledger)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(AbortRun, match=r"_plan\.json is gone: the output was deleted while the run went on"):
        run_shard(plan, plan.shards[0], ledger)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["Infinity", "NaN", "1e300", "4e9", "3e9", '"now"', "null", "-1"])
@pytest.mark.parametrize("field", ["renewed", "seconds", "since"])
def test_no_lease_is_for_ever(tmp_path: Path, moment: str, field: str) -> None:
    ledger = Ledger(str(tmp_path))
    acquire_lease(ledger, "someone", 0.0)
    (path,) = tmp_path.glob("_lease-*.json")
    path.write_text(re.sub(rf'"{field}": [^,]*', f'"{field}": {moment}', path.read_text()))
    with suppress(LeaseError):
        acquire_lease(ledger, "next", 60)
        return  # it had run out, whatever it says
    with pytest.raises(LeaseError, match=r"_lease-\d+\.json .*if nobody works on (it|the output)"):
        acquire_lease(ledger, "next", 60)


def test_leases_go_on_after_a_million_generations(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    acquire_lease(ledger, "someone", 0.0)
    next(tmp_path.glob("_lease-*.json")).rename(tmp_path / "_lease-999999.json")
    assert acquire_lease(ledger, "next", 60).generation == 1_000_000
    with pytest.raises(LeaseError, match="next"):
        acquire_lease(ledger, "third", 60)


def test_a_record_whose_counts_do_not_add_up_is_named(corpus: Path, tmp_path: Path) -> None:
    config = job(corpus, tmp_path / "out")
    run(config)
    (path,) = (tmp_path / "out" / "_records").iterdir()
    path.write_text(re.sub(r'"compressed": \d+', '"compressed": 5000', path.read_text()))
    with pytest.raises(DamagedFile, match="its counts do not add up"):
        Ledger(config.output).records()
