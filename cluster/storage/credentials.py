"""Keeps credentials out of plans, logs, statistics and messages, by saying what may be written, not what looks secret.

Of a URL scheme, host and path may (`lingua.explain.public`): one that has more is refused where it would be stored, and
cut to that much in every message and log. Storage options are secret as a whole: their values are struck out of what
filesystems say in their errors. Variables of the environment are never repeated.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, quote_plus

from lingua.errors import ConfigError
from lingua.explain import public, public_url

MASK = "***"
SHORTEST = 4
"""Characters of a storage option that is struck out of messages; shorter ones stand in ordinary words."""


def redact(text: str, options: Mapping[str, Any]) -> str:
    """`text` without the values of storage options, in any of their `_spellings`; of addresses what may be shown."""
    found = {spelling for value in _values(options) for spelling in _spellings(value) if len(spelling) >= SHORTEST}
    for spelling in sorted(found, key=len, reverse=True):
        longer = spelling.isdecimal()  # within a longer number it is another one
        text = re.sub(rf"(?<!\d){spelling}(?!\d)", MASK, text) if longer else text.replace(spelling, MASK)
    return public(text)


def _spellings(value: str) -> Iterator[str]:
    """A value as messages may have it: as it is, by lines, quoted for a URL, escaped by JSON, Python or XML."""
    for one in {value, *value.splitlines()}:
        quoted = {way(one, errors="replace") for way in (quote, partial(quote, safe=""), quote_plus)}
        yield from quoted
        yield from (re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), some) for some in quoted)
        for text in (one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], repr(one)[1:-1]):
            yield from (text, text.replace("/", "\\/"), html.escape(text))
            yield from (text.replace("\\", "\\\\"), json.dumps(text)[1:-1])  # escaped once more
        yield repr(one.encode(errors="replace"))[2:-1]


def require_no_credentials(name: str, url: str) -> str:
    """The URL. ConfigError when it has more than scheme, host and path; the message repeats no more than those."""
    if (shown := public_url(url)) != url:
        raise ConfigError(
            f"{name}: {shown} is followed or preceded by more than scheme, host and path: a URL with a user, a "
            "query or a fragment carries credentials, which would be written beside the output; give them in "
            "storage_options or in the environment of the storage client; an object of that name: rename it"
        )
    return url


def public_address(address: str) -> str:
    """A Ray cluster's address without what may be a password: scheme, host and port."""
    scheme, separator, rest = address.rpartition("://")
    host = rest.rpartition("@")[2]
    return scheme + separator + min((host.partition(mark)[0] for mark in "/?#"), key=len)


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, str) and "://" not in value:
        yield value
