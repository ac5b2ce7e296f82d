"""A local session can be reached from this machine only."""

from __future__ import annotations

import os

import psutil
import pytest

from cluster.run.pool import session


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_no_process_of_a_local_session_listens_beyond_loopback() -> None:
    environment, before = dict(os.environ), _listening()
    with session():
        opened = _listening() - before
        started = {process for process, _ in opened}
    assert {"gcs_server", "raylet"} <= started
    assert {address for _, address in opened} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert {name for name in os.environ if name.startswith("RAY_ENABLE")} == {
        name for name in environment if name.startswith("RAY_ENABLE")
    }


def _listening() -> set[tuple[str, str]]:
    """Process and address of what this process and its children listen on."""
    own = psutil.Process()
    return {
        (process.name(), connection.laddr.ip)
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
