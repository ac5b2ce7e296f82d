"""How a job ends: what its errors mean for the exit code. Exit codes after signals are in `cluster.stopping`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from cluster.errors import ClusterError
from cluster.stopping import EXIT_ABORTED
from lingua.errors import LinguaError

EXIT_SETTINGS = 2


def exit_code(job: Callable[[], int]) -> int:
    """What `job` returns; 2 for wrong settings and 1 for a run that had to stop, each said on standard error."""
    try:
        return job()
    except LinguaError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ABORTED
