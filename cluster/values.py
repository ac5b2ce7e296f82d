"""`Value`: what stands in a column of structured values (conversation, tagged text, JSON), and its JSON text.

A value is a string (a tagged text, or JSON text) or nested: the lists and objects of a JSON line, or Arrow's lists and
structs. Arrow gives every struct of a column the same fields, so in a Parquet file a message's null field cannot be
told from an absent one: null fields of messages are left out, at every depth. A JSON column keeps them: its rows have
the keys that their type says. In JSON Lines both are as they were written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa

from cluster.arrow import is_list, is_string, storage_of, value_type
from cluster.errors import RowError
from cluster.schema import encoding_of, json_text
from lingua.structured.forms import LISTS
from lingua.structured.streams import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
WANTED: dict[Kind, str] = {
    "structured": "strings",
    "json": "JSON text, lists or structs",
    "messages": "lists of structs, or JSON text, or structs that hold such a list",
}
"""What a column of a kind must hold, for people."""
_ACCEPTED: dict[Kind, tuple[tuple[type, ...], str]] = {
    "structured": ((str,), "a string"),
    "json": ((str, list, dict), "JSON text, an object or a list"),
    "messages": ((str, list, dict), "a list of messages, an object that holds one, or JSON text"),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A structured value: a string, or lists and objects (as `json.loads` gives them)."""

    kind: Kind
    value: Any

    @property
    def content(self) -> list[str]:
        """What tells it apart from all other values. RowError (``too_deep``)."""
        try:
            return [self.kind, type(self.value).__name__, text_of(self.value)]
        except RecursionError:
            raise RowError("too_deep", "the value nests too deeply; give it as JSON text") from None


def require_kind(kind: Kind, value: object, column: str) -> Value:
    """The value of a row. RowError when it is of a type that no value of this kind has."""
    accepted, wanted = _ACCEPTED[kind]
    if not isinstance(value, accepted):
        raise RowError("wrong_type", f"column {column!r} must hold {wanted}, not {type(value).__name__}")
    return Value(kind, value)


def holds(kind: Kind, arrow: pa.DataType) -> bool:
    """Whether values of this kind can stand in a column of this Arrow type."""
    if kind == "messages" and pa.types.is_struct(storage_of(arrow)):
        return any(field.name in LISTS and holds(kind, field.type) for field in arrow)
    if kind == "messages" and is_list(arrow):
        return bool(pa.types.is_struct(storage_of(value_type(arrow))))
    return is_string(arrow) or (kind == "json" and bool(pa.types.is_nested(storage_of(arrow))))


def may_hold(kind: Kind, field: pa.Field) -> bool:
    """Whether some of the values that a sample showed of this column may be of this kind, though not all are.

    A place in it that had values of several types is text (see `schema`): what stood there, its rows tell.
    """
    arrow = field.type
    if encoding_of(field) is not None or holds(kind, arrow):
        return True
    if kind == "messages" and pa.types.is_struct(arrow):
        return any(part.name in LISTS and may_hold(kind, part) for part in arrow)
    return kind == "messages" and is_list(arrow) and encoding_of(arrow.value_field) is not None


def from_arrow(kind: Kind, value: Any) -> Any:
    """A nested Python value from Arrow as JSON says it: times and binary as text; messages without null fields."""
    if value is None or isinstance(value, str):
        return value
    return json.loads(json_text(value), object_pairs_hook=_without_nulls if kind == "messages" else None)


def _without_nulls(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def text_of(value: Any) -> str:
    """A structured value as text: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)
