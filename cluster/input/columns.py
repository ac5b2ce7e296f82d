"""`Columns`: which input columns make a prompt, and what a row of the output looks like.

A corpus is a document a row (`text`), a prompt a row (`instruction`, `context`, `question`; `context` is one string or
a list of strings), or a structured value a row (`messages`, `structured`, `json`). Every input column passes through;
the result columns come behind, with `prefix` before their names when these would collide. Null or absent parts of a
prompt are empty; a row without any is rejected, as is one without text, or without the id that an id column promises.
Equal ids are no error: rows are told apart by file and number.

A structured value is a string (a tagged text, or JSON text) or nested: the lists and objects of a JSON line, or
Arrow's lists and structs. Arrow gives every struct of a column the same fields, so in a Parquet file a message's null
field cannot be told from an absent one: null fields of messages are left out, at every depth. A JSON column keeps them:
its rows have the keys that their type says. In JSON Lines both are as they were written. Its `compressed_prompt` holds
the value put together again: a string as a string, anything else as JSON text. The other results are those of the
prompt that its pieces make: tokens are counted over all of them, and `compressed_context` and `kept_context` list what
is left of its strings and of what stands between.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, get_args

import pyarrow as pa
from pydantic import BeforeValidator, ConfigDict

from cluster.errors import RowError
from cluster.input.arrow import extended, is_list, is_string, storage_of
from cluster.input.schema import UNPLANNED, encoding_of, json_text, unplanned_field, unplanned_name
from cluster.input.shards import STORED, Source
from lingua.assemble import COLUMN
from lingua.errors import ConfigError
from lingua.explain import meant
from lingua.prompt import Prompt
from lingua.structured.forms import LISTS
from lingua.structured.streams import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
_KINDS: dict[Any, str] = {dict: "an object", list: "an array", bool: "a boolean", (int, float): "a number"}
_WANTED: dict[Kind, tuple[str, str, tuple[type, ...]]] = {
    "structured": ("strings", "a string", (str,)),
    "json": ("JSON text, lists or structs", "JSON text, an object or an array", (str, list, dict)),
    "messages": (
        "lists of structs, or JSON text, or structs that hold such a list",
        "an array of messages, an object that holds one, or JSON text",
        (str, list, dict),
    ),
}
"""What a column of a kind must hold, and what a row, for people; what a row's value is then."""
PARTS = ("instruction", "context", "question")
ROLES = ("text", *PARTS, *KINDS, "id")
"""All that a column can be mapped to."""
USUAL = ("text", *PARTS)
"""Names of columns that are mapped where none is named."""
RESULTS = pa.schema(
    [
        ("compressed_prompt", pa.string()),
        ("compressed_context", pa.list_(pa.string())),
        ("kept_context", pa.list_(pa.int64())),
        ("origin_tokens", pa.int64()),
        ("compressed_tokens", pa.int64()),
        ("rate", pa.float64()),
        ("fidelity", pa.float64()),
        ("status", pa.string()),
        ("fingerprint", pa.string()),
    ]
)
ORDER = pa.field(COLUMN, pa.string())
"""The result column that comes behind the others where every budget is to be served."""
AT_A_RATE = ("compressed_prompt", "compressed_context", "kept_context", "compressed_tokens", "rate", "status")
"""The results that there are for each further rate."""
OBJECTS_HINT = "; make one string of each object first, such as its title, a line break and its text"
MESSAGES_HINT = "; a conversation is named with --messages-column, other JSON with --json-column"
SHOWN = 50
"""Columns that a message lists."""


def holds(kind: Kind, field: pa.Field, sampled: bool) -> bool:
    """Whether values of this kind can stand in a column.

    sampled   a sample gave it its type: where that showed messages of several types they are text (see `schema`), and
              what stands there, rows tell
    """
    arrow = storage_of(field.type)
    if is_string(arrow):
        return True
    if kind == "messages" and pa.types.is_struct(arrow):
        return any(part.name in LISTS and holds(kind, part, sampled) for part in arrow)
    if kind == "messages" and is_list(arrow):
        element = arrow.value_field
        return pa.types.is_struct(storage_of(element.type)) or (sampled and encoding_of(element) is not None)
    return kind == "json" and bool(pa.types.is_nested(arrow))


def from_arrow(kind: Kind, value: Any) -> Any:
    """A nested Python value from Arrow as JSON says it: times and binary as text; messages without null fields."""
    if value is None or isinstance(value, str):
        return value
    filled = (lambda fields: {name: one for name, one in fields if one is not None}) if kind == "messages" else None
    return json.loads(json_text(value), object_pairs_hook=filled)


def prompt_content(prompt: Prompt) -> list[Any]:
    """What tells a prompt apart from all others."""
    return [*(getattr(prompt, name) for name in PARTS), prompt.separator]


def text_of(value: Any) -> str:
    """A structured value as text: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


@dataclass(frozen=True, slots=True)
class Mapped:
    """Names of the input columns that make a prompt; None: not used."""

    text: str | None = None
    instruction: str | None = None
    context: str | None = None
    question: str | None = None
    id: str | None = None
    messages: str | None = None
    structured: str | None = None
    json: str | None = None

    @property
    def kind(self) -> Kind | None:
        """What kind of structured value a row holds; None: a document or a prompt."""
        return next((kind for kind in KINDS if getattr(self, kind) is not None), None)

    @property
    def prompt(self) -> tuple[str, ...]:
        """The named columns that a prompt is made of."""
        return tuple(name for role in ROLES if role != "id" and (name := getattr(self, role)) is not None)

    @property
    def all(self) -> tuple[str, ...]:
        """The named columns, the id among them."""
        return self.prompt if self.id is None else (*self.prompt, self.id)

    def or_defaults(self, names: Sequence[str]) -> Mapped:
        """What was named, else the columns of the usual names. ConfigError when there is nothing to compress."""
        listed = ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
        chosen = self if self.prompt else self._usual(names, listed)
        missing = next((name for name in chosen.all if name not in names), None)
        if missing is not None:
            raise ConfigError(f"the input has no column {missing!r};{meant(missing, names)} its columns: {listed}")
        return chosen

    def _usual(self, names: Sequence[str], listed: str) -> Mapped:
        parts = [name for name in PARTS if name in names]
        if "text" in names and parts:
            raise ConfigError(
                f"the input has a column 'text' and {', '.join(map(repr, parts))}; name what to compress with "
                "--text-column or with --instruction-column, --context-column, --question-column"
            )
        if not parts and "text" not in names:
            raise ConfigError(
                f"the input has no column 'text', 'instruction', 'context' or 'question'; name what to compress with "
                f"--text-column, --context-column, --messages-column, …; its columns: {listed}"
            )
        found = {"text": "text"} if "text" in names else {name: name for name in parts}
        return Mapped(**found, id=self.id)


def _unpacked(schema: object) -> object:
    """A schema from what `to_json` makes of it."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))) if isinstance(schema, str) else schema


@dataclass(frozen=True)
class Columns:
    """The columns of a run. A plan stores them (`to_json`), and `parsed` reads them again."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True, **STORED)

    mapped: Mapped
    # the input's; None for JSON Lines in and out
    schema: Annotated[pa.Schema | None, BeforeValidator(_unpacked)]
    prefix: str = ""
    objects: bool = False  # the parts are JSON Lines: JSON objects pass as they are
    folders: tuple[str, ...] = ()  # columns that some files have in the names of their folders
    ordered: bool = False  # results can be cut at any budget: `ORDER` is among their columns
    rates: tuple[float, ...] = ()  # behind the first, each with columns of its own (`at_rate`)

    @property
    def results(self) -> pa.Schema:
        """The result columns, without prefix."""
        further = [RESULTS.field(name).with_name(at_rate(name, rate)) for rate in self.rates for name in AT_A_RATE]
        return pa.schema([*RESULTS, *([ORDER] if self.ordered else []), *further])

    @property
    def named(self) -> dict[str, str]:
        """The columns of a prompt by their roles."""
        return {role: name for role in USUAL if (name := getattr(self.mapped, role)) is not None}

    def given(self, source: Source) -> dict[str, str | None]:
        """What the folders of a file say of all its rows, unless these say something else themselves."""
        return {name: value for name, value in source.folders.items() if name in self.folders}

    def with_unplanned(self, lines: bool) -> Columns:
        """With a column for what a sample does not foresee, where rows of JSON Lines become rows of a schema."""
        if self.schema is None or self.objects or not lines:
            return self
        return replace(self, schema=self.schema.append(unplanned_field(self.prefix)))

    def content(self, values: Mapping[str, Any]) -> list[Any]:
        """What a row's result depends on: its prompt or its structured value. PromptError when there is none."""
        if (kind := self.mapped.kind) is None:
            return prompt_content(self.prompt(values))
        value = self.value(values)
        try:
            return [kind, type(value).__name__, text_of(value)]
        except RecursionError:
            raise RowError("too_deep", "the value nests too deeply; give it as JSON text") from None

    def prompt(self, values: Mapping[str, Any]) -> Prompt:
        """The prompt in a row's values. PromptError when there is none."""
        self._require_something(values)
        mapped = self.mapped
        if mapped.text is not None:
            return Prompt(context=(_text(values, mapped.text),))
        instruction, question = _text(values, mapped.instruction), _text(values, mapped.question)
        return Prompt(instruction, _texts(values, mapped.context), question)

    def value(self, values: Mapping[str, Any]) -> Any:
        """The structured value in a row's values: a string, or lists and objects. RowError when there is none."""
        self._require_something(values)
        if (kind := self.mapped.kind) is None:
            raise ConfigError("no column of structured values is mapped: name one with --messages-column or its like")
        name = getattr(self.mapped, kind)
        _, wanted, accepted = _WANTED[kind]
        if not isinstance(values[name], accepted):
            raise _wrong_type(f"column {name!r} must hold {wanted}", values[name])
        return values[name]

    def _require_something(self, values: Mapping[str, Any]) -> None:
        mapped = self.mapped
        if mapped.id is not None and values.get(mapped.id) is None:
            raise RowError("missing_id", f"id column {mapped.id!r} is null or absent")
        if all(values.get(name) is None for name in mapped.prompt):
            raise RowError("null_text", f"{', '.join(map(repr, mapped.prompt))}: null or absent, nothing to compress")

    @property
    def result_names(self) -> dict[str, str]:
        """The names of the result columns in the output, by those without prefix."""
        return {name: self.prefix + name for name in self.results.names}

    @property
    def output_schema(self) -> pa.Schema | None:
        """The schema of every part: the input's columns, then the results. None: JSON objects as they came."""
        if self.schema is None:
            return None
        added = [field.with_name(self.prefix + field.name) for field in self.results]
        rest = [field for field in self.schema if field.name == unplanned_name(self.schema)]
        schema = pa.schema([*self.schema, *added])
        return schema.with_metadata(extended(self.schema.metadata, schema, [*rest, *added]))

    def require_usable(self, names: Sequence[str], sampled: Collection[str] = ()) -> None:
        """ConfigError when a result column would collide, or a prompt column cannot hold what it is mapped to.

        Of columns that a sample gave their type (`sampled`) it is enough that some values can be what they must be.
        """
        if self.ordered and (self.mapped.question or self.mapped.kind):
            named = self.mapped.question or self.mapped.prompt[0]
            raise ConfigError(
                f"keep_order serves questions that are not known yet, and column {named!r} is mapped; name the columns "
                "to compress with --text-column or --context-column, or leave keep_order out"
            )
        taken = [name for name in self.result_names.values() if name in names]
        if self.schema is not None and self.schema.names.count(rest := self.prefix + UNPLANNED) > 1:
            taken.append(rest)
        if taken:
            raise ConfigError(
                f"the result columns {', '.join(taken)} collide with input columns; give --output-prefix, e.g. 'llm_'"
            )
        for field in self.schema or ():
            if field.name in self.mapped.prompt:
                self._require_type(field, field.name in sampled)

    def _require_type(self, field: pa.Field, sampled: bool) -> None:
        kind, of_context, arrow = self.mapped.kind, field.name == self.mapped.context, storage_of(field.type)
        items = arrow.value_type if is_list(arrow) else arrow
        if not (is_string(items if of_context else arrow) if kind is None else holds(kind, field, sampled)):
            texts = "strings or lists of strings" if of_context else "strings"
            wanted = texts if kind is None else _WANTED[kind][0]
            hint = "" if kind or not pa.types.is_struct(items) else OBJECTS_HINT if of_context else MESSAGES_HINT
            raise ConfigError(f"column {field.name!r} holds {field.type}; it must hold {wanted}{hint}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the schema in Arrow's own serialization, and readable beside it."""
        mapped = asdict(self.mapped)
        common = {"mapped": mapped, "prefix": self.prefix, "objects": self.objects, "folders": list(self.folders)}
        common |= ({"ordered": True} if self.ordered else {}) | ({"rates": list(self.rates)} if self.rates else {})
        if self.schema is None:
            return {**common, "schema": None}
        packed = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        readable = {field.name: str(field.type) for field in self.schema}
        return {**common, "schema": packed, "readable": readable}


def at_rate(name: str, rate: float | None) -> str:
    """What a result is called at a further rate; at the first it has its own name."""
    return name if rate is None else f"{name}_{rate:g}"


def _text(values: Mapping[str, Any], name: str | None) -> str:
    value = None if name is None else values.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong_type(f"column {name!r} must hold a string", value)
    return value or ""


def _texts(values: Mapping[str, Any], name: str | None) -> tuple[str, ...]:
    value = None if name is None else values.get(name)
    if value is None or isinstance(value, str):
        return () if value is None else (value,)
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(f"column {name!r} must hold a string or an array of strings", value)
    for position, item in enumerate(value):
        if item is not None and not isinstance(item, str):
            hint = OBJECTS_HINT if isinstance(item, dict) else ""
            raise _wrong_type(f"column {name!r}: item {position} must be a string", item, hint)
    return tuple(item or "" for item in value)  # null is an empty document, so that `kept_context` counts it


def _wrong_type(wanted: str, value: object, hint: str = "") -> RowError:
    """A value is called as JSON calls it; others, of Parquet, by their class."""
    found = next((name for kind, name in _KINDS.items() if isinstance(value, kind)), type(value).__name__)
    return RowError("wrong_type", f"{wanted}, not {found}{hint}")
