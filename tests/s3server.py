"""moto's S3 over real HTTP, in a thread of this process, on a loopback port that the system chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


@contextmanager
def running_server() -> Iterator[str]:
    """The server's address while it runs; what asks for it is skipped where moto is not installed."""
    moto = pytest.importorskip("moto.server", reason="needs moto")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@dataclass(frozen=True)
class S3Bucket:
    """An empty bucket: its URL and what reaches it."""

    url: str
    storage_options: dict[str, Any]

    @classmethod
    def create(cls, name: str, options: dict[str, Any]) -> S3Bucket:
        import fsspec

        fsspec.filesystem("s3", **options).mkdir(name)
        return cls(f"s3://{name}", options)

    @property
    def files(self) -> Any:
        """The s3fs filesystem."""
        import fsspec

        return fsspec.filesystem("s3", **self.storage_options)
