"""What can go wrong on a cluster, classed by consequence; `is_fatal` says it of everybody else's exceptions.

ClusterError
├── RetryShard          transient (storage 503, reset, timeout): the shard is tried again
├── RowError            one row cannot be used: it goes to the rejects, its shard goes on
└── AbortRun            fatal (no permission, disk full, bad settings): the run stops, what is committed stays
    ├── SourceChanged   an input file is not the one that was planned
    ├── SourceUnusable  an input file cannot be planned (damaged, another schema, not a format we read)
    ├── TooManyRejects  more rows are rejected than the ceiling allows; in `cluster.report.statistics`
    ├── DamagedFile     a file that the job itself keeps beside an output is not what was written
    ├── PlanConflict    the output belongs to other settings, another model or other inputs
    └── LeaseError      another driver holds the output, or took it over

Settings that are wrong before anything starts are `lingua.errors.ConfigError`. Every message names the file, the row,
the value and the remedy, and never a credential.
"""

from __future__ import annotations

import errno

from lingua.errors import ConfigError, ModelError, PromptError


class ClusterError(Exception):
    """Base of everything this package raises on purpose."""


class RetryShard(ClusterError):  # noqa: N818 - named by what follows from it
    """A transient failure: the same shard may succeed when tried again."""


class RowError(ClusterError, PromptError):
    """One row cannot be used; a `PromptError` is that of a prompt which `lingua` could not compress.

    raw   the beginning of what stands there, where no row could be read
    """

    def __init__(self, reason: str, detail: str, raw: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.raw = raw

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class AbortRun(ClusterError):  # noqa: N818 - named by what follows from it
    """A failure that no retry can heal: the run stops at once, what is committed stays."""


class SourceChanged(AbortRun):
    """An input file is gone, or its size or version differs from the plan."""


class SourceUnusable(AbortRun):
    """An input file cannot be planned: damaged, of another schema, or of no format that is read here."""


class DamagedFile(AbortRun):
    """A file that the job keeps beside an output is not what was written: its message says what to do."""


class PlanConflict(AbortRun):
    """The output was begun with other settings, another model or other inputs."""


class LeaseError(AbortRun):
    """Another driver works on this output, or took it over."""


_HOPELESS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
}
_HOPELESS_CODES = frozenset(
    {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "InvalidToken"}
)


def is_fatal(error: BaseException) -> bool:
    """Whether no retry can heal what any exception tells.

    What is unknown may pass: attempts are capped, so a true defect still ends the run with its reason.
    """
    if isinstance(error, (ClusterError, PromptError)):
        return isinstance(error, AbortRun)
    return (
        isinstance(error, (ConfigError, ModelError, ImportError, PermissionError))
        or (isinstance(error, OSError) and error.errno in _HOPELESS)
        or type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}  # botocore's, not imported for it
        or service_code(error) in _HOPELESS_CODES
    )


def service_code(error: BaseException) -> str:
    """The code in an object store's answer (botocore keeps it in `response`), or ``""``."""
    for link in (error, error.__cause__):
        if isinstance(response := getattr(link, "response", None), dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
