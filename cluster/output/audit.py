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
from functools import cached_property, lru_cache
from itertools import accumulate, chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.config import ALGORITHM_KEY, default_of
from cluster.input.arrow import int96_paths, is_string, values_of
from cluster.input.columns import ORDER, RESULTS, at_rate, text_of
from cluster.input.parquet import open_parquet, read_batches
from cluster.input.schema import json_text
from cluster.input.shards import ArrowRow, BadRow, Carried, Row, Shard, Source
from cluster.output.plan import Identity, Plan
from cluster.storage.storage import Storage
from lingua.assemble import Order
from lingua.config import ALGORITHM_VERSION, FORMER, CompressionConfig, fields, without_defaults
from lingua.errors import ConfigError, LinguaError, ModelError, PromptError
from lingua.explain import first_line
from lingua.methods import models_digest
from lingua.models.source import at_hand, resolve
from lingua.prompt import CompressedPrompt, join_parts
from lingua.shared import target_of
from lingua.structured.exact import loads
from lingua.structured.messages import SEPARATOR
from lingua.structured.streams import Kind, Structure, structure_of
from lingua.text.tokens import SourceTokenizer, TargetTokenizer, is_encoding, named_target

SAMPLED_ROWS = 64
"""Rows of a shard that are read by other means."""
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One row of a part."""

    carried: Carried
    results: dict[str, Any]


def read_part(plan: Plan, url: str, storage: Storage) -> Iterator[OutputRow]:
    """The rows of a part, streamed. ValueError, KeyError or OSError when it is none."""
    columns = plan.columns
    if plan.output_format == "jsonl":
        for line in storage.lines(url):
            document = loads(line.decode())
            yield OutputRow(document, {name: document.pop(own) for name, own in columns.result_names.items()})
        return
    if (schema := columns.schema) is None or (planned := columns.output_schema) is None:
        raise ValueError("the plan has no schema, and Parquet parts need one")
    source = Source(url, int(storage.info(url)["size"]), "", "parquet")
    with open_parquet(source, storage) as file:
        found, rows = file.schema_arrow, file.metadata.num_rows
    if (found.names, found.types) != (planned.names, planned.types):
        raise ValueError(f"its columns are not the planned ones: {', '.join(found.names)}")
    for batch in read_batches(Shard("", source, 0, rows), planned, storage):
        if isinstance(batch, BadRow):
            raise ValueError(f"row {batch.number}: {batch.detail}")
        carried = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
        names = columns.result_names
        results = [batch.column(own).to_pylist() for own in names.values()]
        for index, values in enumerate(zip(*results, strict=True)):
            yield OutputRow(ArrowRow(carried, index), dict(zip(names, values, strict=True)))


def same_columns(row: Row, output: OutputRow) -> bool:
    """Whether the input columns came through unchanged; NaN equals NaN."""
    if isinstance(output.carried, dict) or isinstance(row.carried, dict):
        return json_text(row.carried) == json_text(output.carried)
    found, wanted = output.carried.record(), row.carried.record()
    pairs = zip(wanted.columns, found.columns, strict=True)
    return wanted.equals(found) or all(_alike(plain(one), plain(other), False) for one, other in pairs)


def implausible(results: Mapping[str, Any]) -> Iterator[str]:
    empty = results.get("origin_tokens") == 0  # then there is no rate
    wanted = dict.fromkeys([*RESULTS.names, *results])
    missing = [name for name in wanted if results.get(name) is None and not (empty and name.startswith("rate"))]
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
        if not (at := original.find(letter, at) + 1):
            return None
        places.append(at - 1)
    return places


def misassembled(value: Any, kind: Kind, structure: Structure[Any], results: Mapping[str, Any]) -> Iterator[str]:
    """Results of a structured value that are not left of its pieces, or not the value that these make."""
    try:
        context = structure.decompose(value).context
    except PromptError as error:
        yield f"its value cannot be read ({error.reason}) and should be among the rejects"
        return
    if faults := list(unlike(context, results)):
        yield from faults
        return
    kept = dict(zip(results["kept_context"], results["compressed_context"], strict=True))
    places = (_places(kept.get(index, ""), text) or () for index, text in enumerate(context))
    spans = tuple(tuple((at, at + 1) for at in some) for some in places)
    made = structure.reassemble(value, CompressedPrompt("", "", (), "", (), spans, 0, 0, 0))
    if _letters(text_of(made), kind) != _letters(results["compressed_prompt"], kind):
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
        self._current = plan.identity.settings.get(ALGORITHM_KEY) == ALGORITHM_VERSION

    def faults(self, row: Row, results: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with a row's results, but for its tokens. RowError when there is nothing to compress in it."""
        if faults := list(implausible(results)):
            yield from faults
            return
        if (kind := self._columns.mapped.kind) is not None:
            if self._compression is not None and self._current:
                structure = structure_of(kind, self._compression)
                with suppress(RecursionError):
                    yield from misassembled(self._columns.value(row.values), kind, structure, results)
            return
        yield from unlike(self._columns.prompt(row.values).context, results)
        try:
            if (text := results.get(ORDER.name)) is not None:
                order = Order.read(text)
                order.require(self._compression, self._columns.named)
                order.prompt(row.values)
        except PromptError as error:
            yield error.detail

    def miscounted(self, row: Row, results: Mapping[str, Any]) -> str | None:
        """What is wrong with the tokens of a result, or with its order; empty: nothing; None: nothing counts here."""
        if isinstance(target := self._counting, str):
            return None
        text = results["compressed_prompt"]
        if (kind := self._columns.mapped.kind) is not None:  # its tokens are those of the prompt that its pieces make
            text = join_parts(results["compressed_context"], SEPARATOR if kind == "messages" else "")
        if (found := target.count(text)) != results["compressed_tokens"]:
            return f"compressed_tokens = {results['compressed_tokens']}, but what is kept has {found}"
        config, order = self._compression, results.get(ORDER.name)
        if order is None or config is None or config.open_ended or not self._current:
            return ""
        prompt, origin = self._columns.prompt(row.values), results["origin_tokens"]
        for rate in (None, *self._columns.rates):
            name = at_rate("compressed_prompt", rate)
            budget = target_of(rate, origin) if rate else config.target(origin)
            if Order.read(order).cut(prompt, budget, target).text != results[name]:
                return f"{ORDER.name} does not make its {name} at the budget of the run"
        return ""

    @property
    def uncounted(self) -> str | None:
        """Why no tokens are counted again, in words; None: they are."""
        return self._counting if isinstance(self._counting, str) else None

    @cached_property
    def _counting(self) -> TargetTokenizer | str:
        try:
            return _target(self._identity, self._compression)
        except (LinguaError, OSError, ValueError) as error:
            return first_line(error)


def _compression(identity: Identity) -> CompressionConfig | None:
    """The settings of a run's compression; None when this version knows them no more."""
    settings, known = without_defaults(identity.settings), fields().keys() | FORMER
    with suppress(ConfigError):
        return CompressionConfig(**{name: value for name, value in settings.items() if name in known})
    return None


def _target(identity: Identity, compression: CompressionConfig | None) -> TargetTokenizer:
    """What counted the tokens of a run, from this machine. LinguaError, ValueError or OSError where it is not here."""
    name = identity.settings.get("target_tokenizer", default_of("target_tokenizer", {}))
    if name != "model":
        return named_target(name if is_encoding(name) else at_hand(name).location)
    source, second = at_hand(identity.model), compression.own.second_model if compression else None
    if second is not None:
        at_hand(second)
    if compression is None or models_digest(resolve(identity.model), compression) != identity.model_digest:
        raise ModelError(f"model {identity.model!r} of this machine cannot be shown to be that of the run")
    from lingua.models.load import Loader  # torch is loaded where it is needed

    return SourceTokenizer(Loader(source).tokenizer())


# ---- by other means


class Plainly:
    """Parquet files by pyarrow's plain reader; of a source the footer is remembered. Threads share it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._footer = lru_cache(16)(lambda source: self._opened(source).metadata)  # shards come file after file

    def _opened(self, source: Source, **known: Any) -> pq.ParquetFile:
        reader = self._storage.open(source.path, source.size)
        return pq.ParquetFile(reader, coerce_int96_timestamp_unit="s", **known)

    def altered(self, shard: Shard, part: str) -> Iterator[str]:
        """Where the first rows of a part hold other values than their Parquet input: row, column and both values.

        Shards that begin inside a row group are left out: whatever stands before them would be decoded, too.
        """
        wanted = self._opened(shard.source, metadata=self._footer(shard.source))
        found = pq.ParquetFile(self._storage.open(part, int(self._storage.info(part)["size"])))
        counts = (wanted.metadata.row_group(index).num_rows for index in range(wanted.metadata.num_row_groups))
        begins = list(accumulate(counts, initial=0))
        if shard.start not in begins[:-1] or not found.metadata.num_row_groups:
            return
        rows, group = min(SAMPLED_ROWS, shard.end - shard.start), begins.index(shard.start)
        seconds = {path.partition(".")[0] for path in int96_paths(wanted)}
        for name in filter(set(found.schema_arrow.names).__contains__, wanted.schema_arrow.names):
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
    groups = list(range(group, file.metadata.num_row_groups))
    batches = file.iter_batches(rows, row_groups=groups, columns=[name], use_threads=False)
    return list(islice(chain.from_iterable(plain(batch.column(name)) for batch in batches), rows))


def plain(array: pa.Array) -> list[Any]:
    """Values of an array as Python's own, whatever the width of their type; moments as nanoseconds."""
    return values_of(array, _plain_leaf)


def _plain_leaf(array: pa.Array) -> list[Any]:
    kind = array.type
    if is_string(kind):  # which nothing forces to be UTF-8 in a file
        texts = array.cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="surrogateescape") for text in texts]
    if not pa.types.is_temporal(kind) or pa.types.is_interval(kind):
        return list(array.to_pylist())
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
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
