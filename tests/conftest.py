"""Fixtures that several test folders share: the evaluation data, where it is, and a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from tests.s3server import S3Bucket, running_server

settings.register_profile("lingua", deadline=None)  # what is made once, in the first example, takes its time
settings.load_profile("lingua")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real evaluation data that stands beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the evaluation data (../shared/data) is not here")
    return folder


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
