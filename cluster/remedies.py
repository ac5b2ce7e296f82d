"""What to do where a store cannot be used at all: its package is not installed, or it was given no credentials."""

from __future__ import annotations

from lingua.explain import meant

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Scheme → the extra of this package that installs its filesystem."""
_OPTIONS = "or give --storage-options (LINGUA_STORAGE_OPTIONS)"
_CREDENTIALS = {
    "NoCredentialsError": f"; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, {_OPTIONS}",
    "DefaultCredentialsError": f"; set GOOGLE_APPLICATION_CREDENTIALS, {_OPTIONS}",
}
"""What clients of stores raise where they find no credentials, by name: none is imported for it."""


def without_filesystem(protocol: str) -> str:
    """What to install, or the scheme that was likely meant."""
    if (extra := _EXTRAS.get(protocol)) is not None:
        return f"; pip install 'lingua-batch[{extra}]'"
    hint = meant(protocol, _EXTRAS)
    return f";{hint}" if hint else ""


def without_credentials(error: BaseException) -> str:
    """Where credentials are looked for, if that is what is missing."""
    return _CREDENTIALS.get(type(error).__name__, "")
