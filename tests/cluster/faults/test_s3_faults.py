"""Whole jobs from S3 to S3 while the line to the store fails: 503, cut connections, lost and short answers, delays.

A real S3 server over HTTP stands behind a proxy that misbehaves by a seed. The end must be the undisturbed run's, no
part may ever be listed that is not complete, and no credential may be left anywhere.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from cluster.errors import AbortRun, ClusterError
from cluster.output.ledger import PART, Ledger
from cluster.output.verify import verify
from cluster.run.driver import Driver, Terms
from cluster.run.retry import RetryPolicy
from cluster.run.worker import Worker
from cluster.stopping import StopRequest
from cluster.storage.storage import Storage
from jobs.compress import main
from tests.cluster.jobs_for_tests import acquire_lease, open_plan
from tests.fakes import REJECT, FakeCompressor
from tests.faultproxy import FAULTS, Temper, fault_proxy
from tests.jobs.compressors import deadly
from tests.pools import Clock, InProcessPool
from tests.s3server import S3Bucket

ROWS = 60
STARTS = 40
IMPATIENT = {"config_kwargs": {"read_timeout": 5, "retries": {"max_attempts": 1}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same repetitions with pauses of milliseconds."""
    monkeypatch.setattr("cluster.storage.storage.PAUSES", (0.001, 0.001))
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    monkeypatch.setattr(Storage.__init__, "__defaults__", (None, (0.001, 0.001)))


@pytest.fixture
def corpus(s3: S3Bucket) -> S3Bucket:
    """A bucket with two input files, some of whose rows are rejected."""
    texts = [f"{REJECT} {n}" if n % 17 == 3 else f"row {n} with a few words to cut" for n in range(ROWS)]
    lines = [json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)]
    s3.files.pipe_file(f"{s3.url}/in/a.jsonl", "".join(lines[: ROWS // 2]).encode())
    s3.files.pipe_file(f"{s3.url}/in/b.jsonl", "".join(lines[ROWS // 2 :]).encode())
    return s3


@contextmanager
def behind(bucket: S3Bucket, temper: Temper) -> Iterator[S3Bucket]:
    """The same bucket, reached through a proxy of that temper."""
    with fault_proxy(bucket.storage_options["endpoint_url"], temper) as address:
        yield S3Bucket(bucket.url, {**bucket.storage_options, "endpoint_url": address, **IMPATIENT})


def job(bucket: S3Bucket, output: str) -> JobConfig:
    return JobConfig(
        input=f"{bucket.url}/in",
        output=f"{bucket.url}/{output}",
        shard_size=2048,
        storage_options=bucket.storage_options,
    )


def start(config: JobConfig) -> bool:
    """One start of the job; whether it came to its end with everything committed. Aborted runs are started again."""
    ledger, clock = Ledger(config.output, config.storage_options), Clock()
    lease = None
    try:
        plan = open_plan(config, "digest", ledger)
        lease = acquire_lease(ledger, "test", -1)  # it has run out already: the next start may take it over
        ledger.clean()
        worker = Worker(config, replace(plan, shards=(), sources=()), lambda _: FakeCompressor())
        terms = Terms(RetryPolicy(max_attempts=3, pause=0.1), shard_timeout=20)
        pool = InProcessPool(worker, clock, 2)
        complete = Driver(ledger, pool, terms, stop=StopRequest(), clock=clock).run(plan.shards).complete
        lease.release()
    except ClusterError as error:
        if "test-secret-key" in str(error):
            raise ValueError("a message shows a credential") from None
        return False
    return complete


def run_until_complete(config: JobConfig, direct: S3Bucket) -> None:
    for _ in range(STARTS):
        ended = start(config)
        require_whole_parts(direct, config.output)
        if ended:
            return
    raise TimeoutError("not complete")


def parts(bucket: S3Bucket, output: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of every part that a reader of the folder would list."""
    files = bucket.files
    files.invalidate_cache()
    found = {path.rpartition("/")[2]: path for path in files.ls(output)} if files.exists(output) else {}
    return {
        name: pq.read_table(io.BytesIO(files.cat_file(path))).to_pylist()
        for name, path in found.items()
        if PART.fullmatch(name)
    }


def require_whole_parts(bucket: S3Bucket, output: str) -> None:
    """Each listed part can be read and has its record."""
    ledger = Ledger(output, bucket.storage_options)
    assert parts(bucket, output).keys() == {f"{name}.parquet" for name in ledger.committed()}


def everything(bucket: S3Bucket, output: str) -> bytes:
    return b"".join(bucket.files.cat_file(path) for path in bucket.files.find(output))


def test_a_store_that_fails_in_every_way_ends_with_the_same_parts(corpus: S3Bucket) -> None:
    calm = job(corpus, "calm")
    assert start(calm)
    expected = parts(corpus, calm.output)
    temper = Temper(3, {**dict.fromkeys(FAULTS, 0.05), "cut_request": 0.15})
    with behind(corpus, temper) as bucket:
        config = job(bucket, "out")
        run_until_complete(config, corpus)
    assert len(temper.done) >= 5
    assert parts(corpus, config.output) == expected
    audit = verify(config.output, corpus.storage_options)
    assert (audit.problems, audit.rows, audit.rejected) == ([], ROWS, 4)
    assert b"test-secret-key" not in everything(corpus, config.output)


@pytest.mark.parametrize("fault", ["lose_answer", "shorten"])
def test_one_kind_of_fault_alone_at_a_high_rate_is_survived(corpus: S3Bucket, fault: str) -> None:
    temper = Temper(7, {fault: 0.15}, delay=0.01)
    with behind(corpus, temper) as bucket:
        config = job(bucket, "out")
        run_until_complete(config, corpus)
    assert temper.done[fault] > 0
    audit = verify(config.output, corpus.storage_options)
    assert (audit.problems, audit.rows) == ([], ROWS)


def test_a_put_whose_answer_is_always_lost_commits_once(corpus: S3Bucket) -> None:
    with behind(corpus, Temper(1, {"lose_answer": 0.4})) as bucket:
        storage = Storage(bucket.storage_options, pauses=(0.001,) * 20)
        assert storage.create(f"{bucket.url}/x/file", b"mine")
        assert not storage.create(f"{bucket.url}/x/file", b"else")
    assert corpus.files.cat_file(f"{corpus.url}/x/file") == b"mine"


def test_a_store_that_denies_access_ends_the_run_at_once_with_one_message(corpus: S3Bucket) -> None:
    def writes_of_parts(method: str, path: str) -> bool:
        return method == "PUT" and "/out/part-" in path

    temper = Temper(0, {}, deny=writes_of_parts)
    with behind(corpus, temper) as bucket:
        config = job(bucket, "out")
        ledger, clock = Ledger(config.output, config.storage_options), Clock()
        plan = open_plan(config, "digest", ledger)
        pool = InProcessPool(Worker(config, plan, lambda _: FakeCompressor()), clock, 1)
        with pytest.raises(AbortRun, match=r"cannot create s3://.*/out/part-.*PermissionError") as refusal:
            Driver(ledger, pool, Terms(), stop=StopRequest(), clock=clock).run(plan.shards)
    assert len(pool.log) == 1
    assert "test-secret-key" not in str(refusal.value)
    assert parts(corpus, config.output) == {}


@pytest.mark.ray
@pytest.mark.usefixtures("one_ray")
@pytest.mark.timeout(240)
def test_a_whole_run_on_ray_from_s3_to_s3_over_a_bad_line(
    corpus: S3Bucket, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    temper = Temper(11, dict.fromkeys(FAULTS, 0.01))
    with behind(corpus, temper) as bucket:
        settings = {"input": f"{bucket.url}/in", "output": f"{bucket.url}/out", "model": tmp_path, "workers": 2}
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        flags += ["--shard-size", "2KiB", "--lease-seconds", "2", "--storage-options"]
        flags.append(json.dumps(bucket.storage_options))
        assert any(main(flags, deadly) == 0 for _ in range(5))
    captured = capfd.readouterr()
    assert "test-secret-key" not in captured.out + captured.err
    audit = verify(f"{corpus.url}/out", corpus.storage_options)
    assert (audit.problems, audit.rows) == ([], ROWS)
    assert b"test-secret-key" not in everything(corpus, f"{corpus.url}/out")
