"""JSON objects as Arrow columns: the plan made from a sample, and rows put into it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.errors import RowError
from cluster.input.schema import Fitter, JsonShape, batch_of, encoding_of, infer_schema

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1, max_size=5))
def test_every_sampled_object_fits_the_schema_and_comes_back(documents: list[dict[str, Any]]) -> None:
    assume(any(documents))
    schema = infer_schema(documents)
    fitter = Fitter(schema)  # without a column for the rest: all must have its place
    batch = batch_of([fitter.fit(document) for document in documents], schema)
    for row, document in zip(batch.to_pylist(), documents, strict=True):
        for field in schema:
            assert _without_nulls(_read(row[field.name], field)) == _without_nulls(
                _spelt(document.get(field.name), field)
            )


def _read(value: Any, field: pa.Field) -> Any:
    """What a reader of the column's encoding makes of a value of Arrow."""
    if value is None or encoding_of(field) == "text":
        return value
    if encoding_of(field) == "json":
        return json.loads(value)
    if pa.types.is_struct(field.type):
        return {part.name: _read(value[part.name], part) for part in field.type}
    return [_read(item, field.type.value_field) for item in value] if pa.types.is_list(field.type) else value


def _spelt(value: Any, field: pa.Field) -> Any:
    """A JSON value as the column should hold it: only what is marked as text is spelt."""
    if value is None or encoding_of(field) == "json":
        return value
    if encoding_of(field) == "text":
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return {part.name: _spelt(value.get(part.name), part) for part in field.type}
    return [_spelt(item, field.type.value_field) for item in value] if isinstance(value, list) else value


def _without_nulls(value: Any) -> Any:
    """Absent and null keys of objects are one in Arrow."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None} or {}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def planned(*documents: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Type and encoding of each column that a sample gives."""
    return {field.name: (str(field.type), encoding_of(field)) for field in infer_schema(documents)}


@pytest.mark.parametrize(
    ("values", "kind", "encoding"),
    [
        (["doc-7", 8, 2.5, True], "string", "text"),
        ([1, True], "string", "text"),
        ([None, None], "string", "text"),
        ([2**63, 1], "uint64", None),
        ([2**64, 1], "string", "text"),
        ([2**53 + 1, 0.5], "string", "text"),
        ([1, 0.5], "double", None),
        ([{"a": 1}, [1]], "string", "json"),
        ([{}, {}], "string", "json"),
        ([{"a": 1}, "x"], "string", "text"),
        ([[], None], "list<element: string>", None),
        ([["x", 1]], "list<element: string>", None),
        ([{"source": "m", "author": None}], "struct<source: string, author: string>", None),
        ([{"source": "m", "more": {}}], "struct<source: string, more: string>", None),
        ([{"a": {"b": 1}}, {"a": {"b": "x", "c": []}}], "struct<a: struct<b: string, c: list<element: string>>>", None),
    ],
)
def test_only_the_place_without_a_common_type_becomes_text(values: list[Any], kind: str, encoding: str | None) -> None:
    assert planned(*({"x": value} for value in values))["x"] == (kind, encoding)


def test_objects_used_as_maps_become_one_column_of_json_text() -> None:
    maps = [{"meta": {"source": "crawl", f"h-{n}": "x"}} for n in range(200)]
    assert planned(*maps)["meta"] == ("string", "json")
    assert planned(*maps[:50])["meta"][0].startswith("struct<source: string, h-0: string")
    wide = [{"meta": {f"k-{n}": n for n in range(300)}} for _ in range(3)]
    assert planned(*wide)["meta"][0].startswith("struct<")


def test_columns_that_are_mapped_are_planned_among_any_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.input.schema.MAX_KEYS", 5)
    documents = [{**{f"k-{n}": n for n in range(9)}, "text": "a"}]
    assert infer_schema(documents, {"text"}).names == ["k-0", "k-1", "k-2", "k-3", "k-4", "text"]


def test_planning_the_schema_costs_what_the_keys_are_and_not_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(keys: int) -> int:
        seen = 0
        whole = JsonShape.see

        def counted(self: JsonShape, value: object) -> None:
            nonlocal seen
            seen += 1
            whole(self, value)

        monkeypatch.setattr(JsonShape, "see", counted)
        schema = infer_schema({"meta": {f"h-{n}": n}, f"c-{n}": n} for n in range(keys))
        monkeypatch.setattr(JsonShape, "see", whole)
        assert schema.names == ["meta"]
        return seen

    assert calls(4000) == 2 * calls(2000)


def test_fitting_a_row_looks_at_each_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = infer_schema([{f"c-{n}": n for n in range(2000)}])
    fitter = Fitter(schema)
    monkeypatch.setattr("cluster.input.schema.unplanned_name", lambda schema: pytest.fail("walked for a row"))
    assert fitter.fit({"c-1999": 1}) == {"c-1999": 1}


def test_without_a_column_for_what_does_not_fit_the_row_is_refused_not_shortened() -> None:
    with pytest.raises(RowError, match="no planned column holds 'b'"):
        Fitter(infer_schema([{"a": 1}])).fit({"a": 1, "b": 2})
