"""A cluster that is not there is told at once."""

from __future__ import annotations

import socket

import pytest
import ray

from cluster.errors import AbortRun
from cluster.run.pool import reachable, session


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_at_which_nothing_answers_is_named_with_what_to_write(free_port: int, form: str) -> None:
    address = form.format(free_port)
    with pytest.raises(AbortRun, match=f"address = {address}: no Ray cluster answers there .*RAY_ADDRESS"):
        _attach(address)


def test_what_is_no_address_to_ray_is_told_alike() -> None:
    with pytest.raises(AbortRun, match=r"address = localhost: .*Invalid address format"):
        _attach("localhost", ValueError("Invalid address format: localhost"))


def test_a_cluster_that_answers_is_attached_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _attach(f"127.0.0.1:{server.getsockname()[1]}")


def test_a_local_ray_that_does_not_start_is_told_with_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed_out(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", timed_out)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with (
        pytest.raises(AbortRun, match=r"Ray does not start here: .*timed out during startup\.; look at /tmp/ray"),
        session(),
    ):
        pytest.fail("it started")


def _attach(address: str, error: Exception | None = None) -> None:
    with reachable(address):
        if error:
            raise error
