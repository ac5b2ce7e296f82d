"""Fixtures that several test folders share: the evaluation data, where it is, and a real S3 server on loopback.

`pytest -m gpu` needs torch, transformers and what `lingua` itself needs: it looks at the files with such tests alone.
Elsewhere what needs Ray or moto is skipped where these are not installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.s3server import S3Bucket, running_server

if find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("lingua", deadline=None, max_examples=40)  # what is made once takes its time
    settings.load_profile("lingua")

_OPTIONAL = re.compile(r"No module named '(ray|moto)[.']")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without its plugin nobody knows the setting `timeout`, which would be an error."""
    if find_spec("pytest_timeout") is None:
        parser.addini("timeout", "seconds after which a test is ended")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, ignore the files that have no such test."""
    if config.option.markexpr != "gpu" or collection_path.suffix != ".py":
        return None
    return "mark.gpu" not in collection_path.read_text(encoding="utf-8") or None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Skip a file whose import asks for an optional package that is not there."""
    report: Any = yield
    missing = _OPTIONAL.search(str(report.longrepr)) if report.failed else None
    if missing is not None:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: needs {missing[1]}")
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real evaluation data that stands beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the evaluation data (../shared/data) is not here")
    return folder


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One Ray for all jobs that a module runs in this process: most of their time goes into starting it.

    It ends with the module: what Ray runs in a process that is connected must not outlive its cluster.
    """
    import ray

    from cluster.run import pool

    with pool.session() as fixed, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "session", lambda *_: nullcontext(fixed))
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of moto's HTTP server, started on a free loopback port and stopped at the end."""
    with running_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A fresh bucket; `url` begins with s3://, `storage_options` are for the job."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    options: dict[str, Any] = {
        "endpoint_url": s3_endpoint,
        "key": "test-access-key",
        "secret": "test-secret-key",
    }
    return S3Bucket.create(f"bucket-{uuid4().hex[:12]}", options)
