"""Keeps credentials out of plans, logs, statistics and messages.

Storage options are secret as a whole: the plan never holds them, and their values are struck out of what filesystems
say in their errors. URLs that carry credentials themselves are refused, since paths are written into plans and rejects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lingua.errors import ConfigError

MASK = "***"
_USER = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)
_SIGNED = re.compile(r"[?&](x-amz-signature|x-goog-signature|signature|sig|token|access_token|key)=", re.IGNORECASE)


def redact(text: str, options: Mapping[str, Any]) -> str:
    """`text` without the values of storage options; very short values and addresses of servers stay."""
    for value in sorted(_strings(options), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def require_no_credentials(name: str, url: str) -> None:
    """ConfigError when a URL carries a password or a signature; the message repeats neither."""
    if _USER.search(url) or _SIGNED.search(url):
        where = url.partition("://")[0]
        raise ConfigError(
            f"{name}: a {where}:// URL carries credentials, which would be written beside the output; give them in "
            "storage_options or in the environment of the storage client"
        )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str) and len(value) >= 6 and "://" not in value:
        yield value
