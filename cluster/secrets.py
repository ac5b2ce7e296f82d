"""Keeps credentials out of plans, logs, statistics and messages, by saying what may be written, not what looks secret.

Of a URL scheme, host and path may (`lingua.explain.public`): one that has more is refused where it would be stored, and
cut to that much in every message and log. Storage options are secret as a whole: their values are struck out of what
filesystems say in their errors. Variables of the environment are never repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from lingua.errors import ConfigError
from lingua.explain import public, public_url

MASK = "***"
SHORTEST = 4
"""Characters of a storage option that is struck out of messages; shorter ones stand in ordinary words."""


def redact(text: str, options: Mapping[str, Any]) -> str:
    """`text` without the values of storage options, as they are or quoted for a URL; of addresses what may be shown."""
    for value in sorted(_strings(options), key=len, reverse=True):
        for form in {value, quote(value), quote(value, safe=""), quote_plus(value)}:
            text = text.replace(form, MASK)
    return public(text)


def require_no_credentials(name: str, url: str) -> None:
    """ConfigError when a URL has more than scheme, host and path; the message repeats no more than those."""
    if (shown := public_url(url)) != url:
        raise ConfigError(
            f"{name}: {shown} is followed or preceded by more than scheme, host and path: a URL with a user, a "
            "query or a fragment carries credentials, which would be written beside the output; give them in "
            "storage_options or in the environment of the storage client; an object of that name: rename it"
        )


def public_address(address: str | None) -> str | None:
    """A Ray cluster's address without what may be a password: scheme, host and port."""
    if address is None:
        return None
    scheme, separator, rest = address.rpartition("://")
    host = rest.rpartition("@")[2]
    return scheme + separator + min((host.partition(mark)[0] for mark in "/?#"), key=len)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str) and len(value) >= SHORTEST and "://" not in value:
        yield value
