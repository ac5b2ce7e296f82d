"""Reading a part again, row by row, and what can be said of its rows without a model.

`read_part` gives the input columns that a row carries, and its results by their unprefixed names. `same_columns`
compares rows as the job reads and writes them. `altered` reads a few rows of input and part once more by other means,
so that a mistake of the job's own reader cannot hide itself: pyarrow's plain reader, no schema of ours, no dictionaries
kept, moments as whole numbers, dates of 96 bits in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config import default_of
from cluster.input.arrow import is_string
from cluster.input.columns import ORDER, RESULTS, Value, text_of
from cluster.input.jsonl import split_lines
from cluster.input.parquet import open_parquet, read_batches
from cluster.input.schema import json_text
from cluster.input.shards import ArrowRow, BadRow, Carried, Row, Shard, Source
from cluster.output.parts import as_document, record_of
from cluster.output.plan import ALGORITHM as NUMBER
from cluster.output.plan import Identity, Plan
from cluster.storage.storage import Storage
from lingua.assemble import Order
from lingua.config import ALGORITHM, FORMER, CompressionConfig, decisive, fields
from lingua.errors import ConfigError, LinguaError, ModelError, PromptError
from lingua.explain import first_line
from lingua.methods import models_digest
from lingua.models.source import at_hand, resolve
from lingua.prompt import CompressedPrompt, join_parts
from lingua.structured.exact import loads
from lingua.structured.messages import SEPARATOR
from lingua.structured.streams import Kind, Structure, structure_of
from lingua.text.tokens import SourceTokenizer, TargetTokenizer, is_encoding, named_target

SAMPLED_ROWS = 64
"""Rows of a shard that are read by other means."""
FOOTERS = 16
"""Footers of sources that are remembered while their shards are looked at, one file after the other."""
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row of a part."""

    carried: Carried
    results: dict[str, Any]


def read_part(plan: Plan, url: str, storage: Storage) -> Iterator[OutputRow]:
    """The rows of a part, streamed. ValueError, KeyError or OSError when it is none."""
    size = int(storage.info(url)["size"])
    if plan.output_format == "parquet":
        return _from_parquet(plan, url, size, storage)
    return _from_lines(plan, url, size, storage)


def _from_parquet(plan: Plan, url: str, size: int, storage: Storage) -> Iterator[OutputRow]:
    schema = plan.columns.schema
    if schema is None:
        raise ValueError("the plan has no schema, and Parquet parts need one")
    source = Source(url, size, "", "parquet")
    with open_parquet(source, storage) as file:
        _require_schema(file.schema_arrow, plan.columns.output_schema)
        rows = file.metadata.num_rows
    for batch in read_batches(Shard("", source, 0, rows), plan.columns.output_schema, storage):
        if isinstance(batch, BadRow):
            raise ValueError(f"row {batch.number}: {batch.detail}")
        carried = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
        names = plan.columns.results.names
        results = [batch.column(plan.columns.result_name(name)).to_pylist() for name in names]
        for index, values in enumerate(zip(*results, strict=True)):
            yield OutputRow(ArrowRow(carried, index), dict(zip(names, values, strict=True)))


def _require_schema(found: pa.Schema, planned: pa.Schema) -> None:
    if found.names != planned.names or found.types != planned.types:
        raise ValueError(f"its columns are not the planned ones: {', '.join(found.names)}")


def _from_lines(plan: Plan, url: str, size: int, storage: Storage) -> Iterator[OutputRow]:
    for line in split_lines(storage.blocks(url, 0, size), limit=1 << 40):
        if not isinstance(line, bytes):
            raise ValueError("a line cannot be read")
        document = loads(line.decode())
        results = {name: document.pop(plan.columns.result_name(name)) for name in plan.columns.results.names}
        yield OutputRow(document, results)


def same_columns(row: Row, output: OutputRow) -> bool:
    """Whether the input columns came through unchanged; NaN equals NaN."""
    if isinstance(output.carried, dict):
        return json_text(as_document(row.carried)) == json_text(output.carried)
    found = output.carried.record()
    wanted = record_of(row.carried, found.schema)
    return wanted.equals(found) or (
        wanted.schema.names == found.schema.names
        and all(_alike(*pair, False) for pair in zip(_values(wanted), _values(found), strict=True))
    )


def _values(record: pa.RecordBatch) -> list[Any]:
    return [plain(column)[0] for column in record.columns]


def implausible(results: Mapping[str, Any]) -> Iterator[str]:
    optional = ("rate",) if results.get("origin_tokens") == 0 else ()
    wanted = dict.fromkeys([*RESULTS.names, *results])
    missing = [name for name in wanted if results.get(name) is None and name not in optional]
    if missing:
        yield f"{missing[0]} is missing"
        return
    origin, compressed = results["origin_tokens"], results["compressed_tokens"]
    if origin and abs(results["rate"] - compressed / origin) > 1e-9:
        yield f"rate = {results['rate']}, but {compressed} of {origin} tokens were kept"
    if not 0 <= results["fidelity"] <= 1:
        yield f"fidelity = {results['fidelity']} is no share between 0 and 1"
    if not 0 <= compressed <= origin:
        yield f"compressed_tokens = {compressed} is more than origin_tokens = {origin}"
    if len(results["compressed_context"]) != len(results["kept_context"]):
        yield "compressed_context and kept_context have different lengths"


def unlike(context: Sequence[str], results: Mapping[str, Any]) -> Iterator[str]:
    """Kept strings that are not what is left of the original's."""
    kept = results["kept_context"]
    if len(set(kept)) < len(kept) or not all(0 <= index < len(context) for index in kept):
        yield f"kept_context = {kept} does not name {len(context)} strings of the original, each at most once"
        return
    for index, text in zip(kept, results["compressed_context"], strict=True):
        if _places(text, context[index]) is None:
            yield f"compressed_context of string {index} is not what is left of it when something is taken out"
            return


def _places(text: str, original: str) -> list[int] | None:
    """Where the letters and digits of a text stand in its original, in that order; marks of a cut stand between."""
    places, at = list[int](), 0
    for letter in filter(str.isalnum, text):
        at = original.find(letter, at) + 1
        if not at:
            return None
        places.append(at - 1)
    return places


def misassembled(value: Value, structure: Structure[Any], results: Mapping[str, Any]) -> Iterator[str]:
    """Results of a structured value that are not left of its pieces, or not the value that these make."""
    try:
        context = structure.decompose(value.value).context
    except PromptError as error:
        yield f"its value cannot be read ({error.reason}) and should be among the rejects"
        return
    faults = list(unlike(context, results))
    yield from faults
    if faults:
        return
    kept = dict(zip(results["kept_context"], results["compressed_context"], strict=True))
    places = (_places(kept.get(index, ""), text) or () for index, text in enumerate(context))
    spans = tuple(tuple((at, at + 1) for at in some) for some in places)
    made = structure.reassemble(value.value, CompressedPrompt("", "", (), "", (), spans, 0, 0, 0))
    if _letters(text_of(made), value.kind) != _letters(results["compressed_prompt"], value.kind):
        yield "compressed_prompt is not its value with the texts of compressed_context"


def _letters(text: str, kind: Kind) -> str | None:
    """Letters and digits of a text; of JSON, those of its keys and values, however they are escaped. None: no JSON."""
    try:
        waiting = [text if kind == "structured" else loads(text)]
    except ValueError:
        return None
    found = list[str]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [item for pair in reversed(value.items()) for item in reversed(pair)]
        elif isinstance(value, list):
            waiting += reversed(value)
        else:
            found += filter(str.isalnum, str(value))
    return "".join(found)


class Results:
    """Looks at the results of single rows as far as that needs no model. Threads share it.

    Tokens are counted again where the tokenizer of the run is on this machine: nothing is fetched for an audit.
    """

    def __init__(self, plan: Plan) -> None:
        self._columns, self._identity = plan.columns, plan.identity
        self._compression = _compression(plan.identity)
        self._lock = Lock()
        self._counter: TargetTokenizer | str | None = None

    def faults(self, row: Row, results: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with a row's results, but for its tokens. RowError when there is nothing to compress in it."""
        faults = list(implausible(results))
        yield from faults
        if faults:
            return
        if (kind := self._columns.mapped.kind) is None:
            yield from unlike(self._columns.prompt(row.values).context, results)
            yield from self._disordered(row, results)
        elif self._compression is not None and self._identity.settings.get(NUMBER) == ALGORITHM:
            structure = structure_of(kind, self._compression)
            with suppress(RecursionError):
                yield from misassembled(self._columns.value(row.values), structure, results)

    def _disordered(self, row: Row, results: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with an order as far as that needs no tokenizer."""
        try:
            if (text := results.get(ORDER.name)) is not None:
                order = Order.read(text)
                order.require(self._compression, self._columns.named)
                order.prompt(row.values)
        except PromptError as error:
            yield error.detail

    def miscounted(self, row: Row, results: Mapping[str, Any]) -> str | None:
        """What is wrong with the tokens of a result, or with its order; empty: nothing; None: nothing counts here."""
        if isinstance(target := self._counting(), str):
            return None
        text = results["compressed_prompt"]
        if (kind := self._columns.mapped.kind) is not None:  # its tokens are those of the prompt that its pieces make
            text = join_parts(results["compressed_context"], SEPARATOR if kind == "messages" else "")
        if (found := target.count(text)) != results["compressed_tokens"]:
            return f"compressed_tokens = {results['compressed_tokens']}, but what is kept has {found}"
        config, order = self._compression, results.get(ORDER.name)
        if order is None or config is None or config.open_ended or self._identity.settings[NUMBER] != ALGORITHM:
            return ""
        again = Order.read(order).cut(self._columns.prompt(row.values), config.target(results["origin_tokens"]), target)
        return (
            "" if again.text == text else f"{ORDER.name} does not make its compressed_prompt at the budget of the run"
        )

    @property
    def uncounted(self) -> str | None:
        """Why no tokens are counted again, in words; None: they are."""
        counting = self._counting()
        return counting if isinstance(counting, str) else None

    def _counting(self) -> TargetTokenizer | str:
        with self._lock:
            if self._counter is None:
                try:
                    self._counter = _target(self._identity, self._compression)
                except (LinguaError, OSError, ValueError) as error:
                    self._counter = first_line(error)
            return self._counter


def _compression(identity: Identity) -> CompressionConfig | None:
    """The settings of a run's compression; None when this version knows them no more."""
    known = fields().keys() | FORMER
    try:
        return CompressionConfig(**{name: one for name, one in decisive(identity.settings).items() if name in known})
    except ConfigError:
        return None


def _target(identity: Identity, compression: CompressionConfig | None) -> TargetTokenizer:
    """What counted the tokens of a run, from this machine. LinguaError, ValueError or OSError where it is not here."""
    name = identity.settings.get("target_tokenizer", default_of("target_tokenizer", {}))
    if name != "model":
        return named_target(name if is_encoding(name) else at_hand(name).location)
    source, second = at_hand(identity.model), compression.own.second_model if compression else None
    if second is not None:
        at_hand(second)
    if compression is None or (
        models_digest(resolve(identity.model), compression, whole=identity.older) != identity.model_digest
    ):
        raise ModelError(f"model {identity.model!r} of this machine cannot be shown to be that of the run")
    from lingua.models.load import Loader  # torch is loaded where it is needed

    return SourceTokenizer(Loader(source).tokenizer())


# ---- by other means


class Plainly:
    """Parquet files by pyarrow's plain reader. A source's footer is read once for all its shards. Threads share it."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._lock = storage, Lock()
        self._footers: dict[str, pq.FileMetaData] = {}

    def altered(self, shard: Shard, part: str) -> Iterator[str]:
        """Where the first rows of a part hold other values than their Parquet input: row, column and both values.

        Shards that begin inside a row group are left out: whatever stands before them would be decoded, too.
        """
        found = pq.ParquetFile(self._storage.open(part, int(self._storage.info(part)["size"])))
        yield from _altered(shard, self._source(shard.source), found)

    def _source(self, source: Source) -> pq.ParquetFile:
        def opened(**known: Any) -> pq.ParquetFile:
            reader = self._storage.open(source.path, source.size)
            return pq.ParquetFile(reader, coerce_int96_timestamp_unit="s", **known)

        with self._lock:
            if (footer := self._footers.get(source.path)) is not None:
                return opened(metadata=footer)
            file = opened()
            self._footers[source.path] = file.metadata
            if len(self._footers) > FOOTERS:
                del self._footers[next(iter(self._footers))]
            return file


def _altered(shard: Shard, wanted: pq.ParquetFile, found: pq.ParquetFile) -> Iterator[str]:
    counts = [wanted.metadata.row_group(index).num_rows for index in range(wanted.metadata.num_row_groups)]
    begins = list(accumulate(counts, initial=0))
    if shard.start not in begins[:-1] or not found.metadata.num_row_groups:
        return
    rows, group = min(SAMPLED_ROWS, shard.end - shard.start), begins.index(shard.start)
    seconds = {path.partition(".")[0] for path in _dates_of_96_bits(wanted)}
    for name in wanted.schema_arrow.names:
        if name not in found.schema_arrow.names:
            continue
        try:
            before, after = _head(wanted, name, group, rows), _head(found, name, 0, rows)
        except pa.ArrowNotImplementedError:  # nested dictionaries: the plain reader knows no way
            continue
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            if not _alike(one, other, in_seconds=name in seconds):
                yield f"{shard.first_row + index}: column {name!r} is {other!r:.80}, in the input it is {one!r:.80}"
                return


def _head(file: pq.ParquetFile, name: str, group: int, rows: int) -> list[Any]:
    """A column's first values from a row group on."""
    values = list[Any]()
    groups = list(range(group, file.metadata.num_row_groups))
    for batch in file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False):
        values += plain(batch.column(name))
        if len(values) >= rows:
            break
    return values[:rows]


def _dates_of_96_bits(file: pq.ParquetFile) -> Iterator[str]:
    schema = file.schema
    columns = (schema.column(index) for index in range(len(schema)))
    return (column.path for column in columns if column.physical_type == "INT96")


def plain(array: pa.Array) -> list[Any]:
    """Values of an array as Python's own, whatever the width of their type; moments as nanoseconds."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_struct(kind):
        names, columns = [field.name for field in kind], [plain(column) for column in array.flatten()]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_nested(kind):
        return [plain(item.values) if item.is_valid else None for item in array]
    if pa.types.is_temporal(kind):
        return _moments(array)
    if is_string(kind):  # which nothing forces to be UTF-8 in a file
        texts = array.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="surrogateescape") for text in texts]
    return list(array.to_pylist())


def _moments(array: pa.Array) -> list[int | None]:
    kind = array.type
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_interval(kind):
        return list(array.to_pylist())
    factor = _DAY if pa.types.is_date32(kind) else _NANOSECONDS.get(getattr(kind, "unit", "ms"), 1)
    return [None if value is None else value * factor for value in array.view(width).to_pylist()]


def _alike(one: Any, other: Any, in_seconds: bool) -> bool:
    """Whether two values are the same; a field that a struct lacks is null, NaN is NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one.get(name), other.get(name), in_seconds) for name in {**one, **other})
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(_alike(*pair, in_seconds) for pair in zip(one, other, strict=True))
    if in_seconds and isinstance(one, int) and isinstance(other, int):
        return one // 10**9 == other // 10**9
    return bool(one == other or (one != one and other != other))
