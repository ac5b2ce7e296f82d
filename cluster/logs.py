"""Structured logs: what happened to which shard and row, as lines for people or JSON Lines for machines.

The logger is the standard library's ``lingua``; whoever embeds the job may attach handlers of their own. Every event
has a short name and its facts as fields (`shard`, `source`, `row`, …), never the text of a row. Workers write to their
standard error, which Ray keeps in a file for each worker and shows in its dashboard.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

from lingua.explain import public

LOGGER = logging.getLogger("lingua")
LOGGER.addHandler(logging.NullHandler())
Format = Literal["text", "json"]


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event with its fields."""
    LOGGER.log(level, name, extra={"fields": fields})


def set_up(style: Format, stream: TextIO | None = None) -> Callable[[], None]:
    """Write the events to `stream` (standard error unless given), until what is returned is called.

    A second call replaces the first. Handlers of whoever embeds the job stay, and so does a level that they chose.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.set_name(_OURS)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    _leave()
    LOGGER.addHandler(handler)
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(_LEVEL)
    return _leave


def _leave() -> None:
    for handler in [one for one in LOGGER.handlers if one.get_name() == _OURS]:
        LOGGER.removeHandler(handler)
        if LOGGER.level == _LEVEL:
            LOGGER.setLevel(logging.NOTSET)


_OURS = "lingua-events"
_LEVEL = logging.INFO
"""What the events of a job are logged from, where nobody chose."""


class JsonFormatter(logging.Formatter):
    """An event as one JSON object: `time` in UTC, `level`, `event`, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        return json.dumps({"time": moment, **_facts(record)}, default=str)


class TextFormatter(logging.Formatter):
    """An event as one line: its name, then the fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        facts = _facts(record)
        head = f"{moment} {facts.pop('level')} {facts.pop('event')}"
        return " ".join([head, *(f"{name}={json.dumps(value, default=str)}" for name, value in facts.items())])


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: public(value) if isinstance(value, str) else value for name, value in _fields(record).items()}
    return {"level": record.levelname.lower(), "event": public(record.getMessage()), **fields}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, "fields", {}))
