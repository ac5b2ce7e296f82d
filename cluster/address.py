"""The address of a Ray cluster: a wrong one is told at once. Ray itself tries for minutes, then ends the process.

Also whether this process is the driver of a submitted job, which Ray says in the environment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import AbortRun
from cluster.secrets import public_address
from lingua.explain import public

SECONDS_FOR_AN_ANSWER = 10.0
_REMEDY = (
    "write HOST:PORT, ray://HOST:PORT or auto (--address, RAY_ADDRESS), or leave it out for a Ray of its own on this "
    "machine"
)


def submitted() -> bool:
    """Whether `ray job submit` started this process: Ray then runs it in a copy of the working directory."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def is_elsewhere(address: str | None) -> bool:
    """Whether a job with this address (or RAY_ADDRESS, set inside a submitted job) runs on a cluster that is there."""
    return (address or os.environ.get("RAY_ADDRESS", "")) not in ("", "local")


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Attaches inside. AbortRun when nothing answers at this address, or when it is none."""
    shown = public_address(address) or ""
    host, colon, port = shown.rpartition("://")[2].rpartition(":")
    try:
        if colon and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_FOR_AN_ANSWER).close()
        yield
    except (OSError, OverflowError, ValueError) as error:
        said = str(error).replace(address, shown)
        raise AbortRun(f"address = {shown}: no Ray cluster answers there ({public(said)}); {_REMEDY}") from None
