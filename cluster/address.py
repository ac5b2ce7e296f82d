"""The address of a Ray cluster: a wrong one is told at once. Ray itself tries for minutes, then ends the process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.errors import AbortRun

SECONDS_FOR_AN_ANSWER = 10.0
_REMEDY = (
    "write HOST:PORT, ray://HOST:PORT or auto (--address, RAY_ADDRESS), or leave it out for a Ray of its own on this "
    "machine"
)


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Attaches inside. AbortRun when nothing answers at this address, or when it is none."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_FOR_AN_ANSWER).close()
        yield
    except (OSError, OverflowError, ValueError) as error:
        raise AbortRun(f"address = {address}: no Ray cluster answers there ({error}); {_REMEDY}") from None
