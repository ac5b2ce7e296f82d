"""JSON: the rules' meaning, that nothing but strings changes, and that text comes back as it was where all is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.config import CompressionConfig
from lingua.errors import ConfigError, PromptError
from lingua.prompt import CompressedPrompt
from lingua.structured.exact import dumps, loads
from lingua.structured.json import Json
from tests.lingua.structured.echo_face import LONG_LINE, PROSE, STRINGS, EchoCompressor, is_subsequence

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)
CONTAINERS = st.one_of(st.lists(JSON), st.dictionaries(st.text(), JSON))
COMPRESS_ALL = Json.of({"**": "compress"})


def emptied(structure: Json, value: Any) -> Any:
    """The value when nothing is kept of what may be cut."""
    prompt = structure.decompose(value)
    spans = tuple(
        ((0, len(text)),) if rate == 1 else () for text, rate in zip(prompt.context, prompt.context_rates, strict=True)
    )
    outcome = CompressedPrompt("", "", (), "", (), spans, 1, 1, 1)
    return structure.reassemble(value, outcome)


def kept_whole(structure: Json, value: Any) -> Any:
    spans = tuple(((0, len(text)),) if text else () for text in structure.decompose(value).context)
    return structure.reassemble(value, CompressedPrompt("", "", (), "", (), spans, 1, 1, 1))


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else str if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("rules", "cut"),
    [
        ({"**": "compress"}, "abcdefg"),
        ({}, ""),
        ({"x": 0.5}, "a"),
        ({"list[]": 0.5}, "bcde"),
        ({"list[].n": 0.5}, "bd"),
        ({"list[1].n": 0.5}, "d"),
        ({"*": 0.5}, "abcdefg"),
        ({"*.*": 0.5}, "bcdefg"),
        ({"**.n": 0.5}, "bdf"),
        ({"list.**.n": 0.5, "list[0]": "keep"}, "bd"),
        ({"**": 0.5, "list": "keep"}, "afg"),
        ({"list": "keep", "list[].n": 0.5}, "bd"),
        ({"list": "keep", "**": "compress", "list[0]": 0.3}, "abcfg"),
        ({'"o.p"': 0.5}, "fg"),
        ({'"o.p".n': "keep", '"o.p"': 0.5}, "g"),
    ],
)
def test_rules_find_their_strings_and_the_more_specific_one_decides(rules: dict[str, Any], cut: str) -> None:
    value = {"x": "a", "list": [{"n": "b", "m": "c"}, {"n": "d", "m": "e"}], "o.p": {"n": "f", "m": "g"}, "no": 1}
    found = json.dumps(emptied(Json.of(rules), value))
    assert {letter for letter in "abcdefg" if f'"{letter}"' not in found} == set(cut)


def test_rules_do_not_depend_on_their_order() -> None:
    rules = {"a.*": 0.1, "*.b": "keep", "**": "compress"}
    reversed_rules = dict(reversed(rules.items()))
    value = {"a": {"b": "text", "c": "text"}, "d": "text"}
    assert (
        emptied(Json.of(rules), value)
        == emptied(Json.of(reversed_rules), value)
        == {"a": {"b": "text", "c": ""}, "d": ""}
    )


@pytest.mark.parametrize("path", ["", "a..b", "a.", ".a", "a[", "a[x]", "a]", "a b[0]c", '"open', "a*b"])
def test_a_path_that_cannot_be_read_is_an_error_of_the_settings(path: str) -> None:
    with pytest.raises(ConfigError, match=r"json_rules.*path"):
        CompressionConfig(json_rules={path: 0.5})


@pytest.mark.parametrize("action", [1.5, -0.1, "maybe", None, True, [0.5]])
def test_an_action_is_a_rate_or_a_known_word(action: Any) -> None:
    with pytest.raises(ConfigError, match="neither a rate"):
        CompressionConfig(json_rules={"a": action})


@given(CONTAINERS)
def test_keys_types_numbers_and_order_survive_whatever_is_cut(value: Any) -> None:
    result = emptied(COMPRESS_ALL, value)
    assert shape(result) == shape(value)
    assert json.dumps(shape_keys(result)) == json.dumps(shape_keys(value))


def shape_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return [[key, shape_keys(item)] for key, item in value.items()]
    return [shape_keys(item) for item in value] if isinstance(value, list) else None


@given(CONTAINERS, st.sampled_from([None, 2]), st.booleans())
def test_text_and_values_are_treated_alike(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert json.loads(emptied(COMPRESS_ALL, text)) == emptied(COMPRESS_ALL, value)
    assert kept_whole(COMPRESS_ALL, text) == text
    assert kept_whole(COMPRESS_ALL, value) == value


DROPPED = [
    ('{"a": 1, "b": "x", "c": 2}', {"b": "drop"}, {"a": 1, "c": 2}),
    ('{"a": 1, "b": "x"}', {"b": "drop"}, {"a": 1}),
    ('{"a": 1, "b": {"c": [1]}, "d": [2]}', {"b": "drop", "d": "drop"}, {"a": 1}),
    ('{ "a" : 1 , "b" : 2 }', {"a": "drop"}, {"b": 2}),
    ("[1, 2, 3]", {"[1]": "drop"}, [1, 3]),
    ("[1, 2, 3]", {"[]": "drop"}, []),
    ('[{"a": 1, "b": 2}, {"b": 3}]', {"[].b": "drop"}, [{"a": 1}, {}]),
]


@pytest.mark.parametrize(("text", "rules", "left"), DROPPED)
def test_what_is_dropped_is_gone_with_its_key_and_comma(text: str, rules: dict[str, str], left: Any) -> None:
    structure = Json.of(rules)
    assert json.loads(kept_whole(structure, text)) == left
    assert kept_whole(structure, json.loads(text)) == left


@given(CONTAINERS, st.sampled_from(["*", "[]", "[0]", "[1]", "**.a", "*[0]", "[].*", "*.*"]), st.integers(0, 2))
def test_dropping_leaves_valid_json_equal_to_dropping_from_the_value(value: Any, path: str, indent: int) -> None:
    structure = Json.of({path: "drop", "**": "compress"})
    text = json.dumps(value, indent=indent or None)
    assert json.loads(kept_whole(structure, text)) == kept_whole(structure, value)


def test_numbers_escapes_white_space_and_repeated_keys_stay_as_they_are_where_all_is_kept() -> None:
    text = '{ "n" : 1.50e+3 , "big":123456789012345678901234567890,"e":"\\u00e9\\/\\ud800", "n":-0.0, "x":NaN }\n'
    assert EchoCompressor(rate=1.0).compress_json(text).value == text
    assert kept_whole(COMPRESS_ALL, text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"a":"x","n":[1,2]}', '{"a":"","n":[1,2]}'),
        ('{ "a" : "x" ,\n  "n" : [1,2] }', '{"a": "", "n": [1, 2]}'),
        ('{\n  "a": "x",\n  "n": [1, 2]\n}', '{"a": "", "n": [1, 2]}'),
        ('{"a": "x", "b\\u00e9": 1.50, "c": 1e400}', '{"a": "", "b\\u00e9": 1.5, "c": 1e400}'),
        ('{"a": "x", "bé": "\\u00e9\\ud800"}', '{"a": "", "bé": "é\\ud800"}'),
        ('{"a": "y", "n": 1, "a": "x"}', '{"a": "", "n": 1}'),
    ],
)
def test_text_that_changes_is_written_in_one_line_in_its_style_with_the_same_values(text: str, left: str) -> None:
    found = emptied(Json.of({"a": "compress"}), text)
    assert found == left
    assert loads(found) == {**loads(text), "a": ""}


MALFORMED = [
    "",
    " ",
    "{",
    "[1,]",
    '{"a" 1}',
    '{"a":1,}',
    "[1 2]",
    "01",
    "1.",
    "tru",
    '"a',
    '"\n"',
    "[1]]",
    "{1:2}",
    '"\\x"',
    "[",
    "nul",
    "a\0",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_json_is_an_error_with_its_position(text: str) -> None:
    with pytest.raises(PromptError, match=r"character \d+") as error:
        COMPRESS_ALL.decompose(text)
    assert error.value.reason == "malformed_json"


@given(st.text(alphabet='{}[]",:01e.-tfn \\u'))
def test_the_parser_accepts_what_the_standard_library_accepts(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(PromptError):
            COMPRESS_ALL.decompose(text)
    else:
        assert kept_whole(COMPRESS_ALL, text) == text


def test_text_that_nests_too_deeply_for_json_is_refused() -> None:
    with pytest.raises(PromptError) as error:
        COMPRESS_ALL.decompose("[" * 50_000 + '"hello"' + "]" * 50_000)
    assert error.value.reason == "too_deep"


def test_a_value_that_nests_too_deeply_is_refused_and_one_of_usual_depth_is_read() -> None:
    value: Any = "hello"
    for depth in range(50_000):
        value = [value]
        if depth == 100:
            assert kept_whole(COMPRESS_ALL, value) == value
    with pytest.raises(PromptError) as error:
        COMPRESS_ALL.decompose(value)
    assert error.value.reason == "too_deep"


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {0: "a"}, [b"bytes"]])
def test_values_that_json_does_not_know_are_refused(value: Any) -> None:
    with pytest.raises(PromptError) as error:
        COMPRESS_ALL.decompose(value)
    assert error.value.reason == "wrong_type"


@pytest.mark.parametrize("text", [*STRINGS, LONG_LINE], ids=lambda t: repr(t[:12]))
def test_at_rate_one_values_and_texts_come_back_unchanged(text: str) -> None:
    value = {"text": text, "deep": [[{"more": [text, None, 1.5, True]}]], text: "key"}
    compressor = EchoCompressor(rate=1.0)
    assert compressor.compress_json(value).value == value
    for encoded in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert compressor.compress_json(encoded).value == encoded


@pytest.mark.parametrize("text", STRINGS, ids=lambda t: repr(t[:12]))
def test_nasty_strings_are_cut_within_valid_json(text: str) -> None:
    value = {"text": text + " " + PROSE, "id": text}
    result = EchoCompressor(rate=0.5).compress_json(json.dumps(value), {"text": 0.4})
    parsed = json.loads(result.value)
    assert parsed["id"] == text
    assert is_subsequence(parsed["text"], value["text"])
    assert len(parsed["text"]) < len(value["text"])


def test_each_path_keeps_its_rate() -> None:
    value = {"items": [{"title": PROSE, "body": PROSE, "price": 3} for _ in range(3)]}
    words = EchoCompressor(rate=0.5, method="llmlingua")  # whole clauses would be too coarse for the rates of one each
    result = words.compress_json(value, {"items[].title": 0.8, "items[].body": 0.2}).value
    assert all(item["price"] == 3 for item in result["items"])
    assert 0.6 < sum(len(item["title"]) for item in result["items"]) / (3 * len(PROSE)) < 0.95
    assert 0.08 < sum(len(item["body"]) for item in result["items"]) / (3 * len(PROSE)) < 0.35


def test_unreadable_rules_of_a_call_are_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="rules: path"):
        EchoCompressor().compress_json({}, {"a[": 0.5})


def test_numbers_that_float64_does_not_hold_are_fragments_as_written() -> None:
    value = loads('{"text": "one two", "p": 0.12345678901234567890123, "big": [1e400]}')
    assert "".join(COMPRESS_ALL.decompose(value).context) == dumps({**value, "text": "one two"}).replace(
        '"one two"', "one two"
    )
    assert kept_whole(COMPRESS_ALL, value) == value


@pytest.mark.parametrize("written", ["0.10000000000000001", "0.30000000000000004", "5e-324", "1.000000000000000000000"])
def test_a_float_of_any_program_is_that_float(written: str) -> None:
    assert loads(written) == float(written)
