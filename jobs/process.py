"""A job's process: what must be installed before it starts, and what its errors mean for the exit code.

Exit codes after signals are in `cluster.run.stopping`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

from cluster.errors import ClusterError
from cluster.run.stopping import EXIT_ABORTED
from cluster.storage.local import full_scratch, is_full
from lingua.errors import ConfigError, LinguaError
from lingua.explain import in_words, public

EXIT_SETTINGS = 2


def require_packages(extra: str, *modules: str) -> None:
    """ConfigError with the command that installs them when some of these are not there."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise ConfigError(f"not installed: {', '.join(missing)}; pip install 'lingua-batch[{extra}]'")


def exit_code(job: Callable[[], int]) -> int:
    """What `job` returns; 2 for wrong settings and 1 for a run that had to stop, each said on standard error."""
    try:
        return job()
    except LinguaError as error:
        print(f"error: {public(str(error))}", file=sys.stderr)
        return EXIT_SETTINGS
    except ClusterError as error:
        print(f"error: {public(str(error))}", file=sys.stderr)
        return EXIT_ABORTED
    except OSError as error:  # of a disk at hand: stores' errors are mapped where they are asked
        print(f"error: {full_scratch() if is_full(error) else in_words(error)}", file=sys.stderr)
        return EXIT_ABORTED
