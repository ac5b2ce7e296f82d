"""Every form that conversations are written in: what is cut, kept and counted, or left aside, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.errors import PromptError
from lingua.structured import forms
from lingua.structured.conversation import FoundText, read
from tests.lingua.structured.conversations import (
    ANSWER,
    ANTHROPIC,
    ASK,
    BEDROCK,
    DRAFT,
    FORMS,
    GEMINI,
    LANGCHAIN_DUMPED,
    LISTING,
    NEWEST,
    PIXELS,
    RESPONSES,
    SIGNATURE,
)
from tests.lingua.structured.echo_face import PROSE, EchoCompressor, is_subsequence

form = pytest.mark.parametrize("value", FORMS.values(), ids=FORMS.keys())


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every string with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strings(item, (*path, key))


def covers(one: FoundText, path: tuple[Any, ...]) -> bool:
    return path[: len(one.path)] == one.path


def blanked(value: Any, original: Any) -> Any:
    """The value without the texts that may be cut in the original."""
    blank = copy.deepcopy(value)
    for one in read(original):
        if one.fate == "cut":
            holder = blank
            for step in one.path[:-1]:
                holder = holder[step]
            holder[one.path[-1]] = ""
    return blank


def fates(value: Any, fate: str) -> list[str]:
    return [one.text for one in read(value) if one.fate == fate]


@form
def test_every_string_is_cut_or_kept_or_opaque_and_only_once(value: Any) -> None:
    found = list(read(value))
    for path, text in strings(value):
        owners = [one for one in found if covers(one, path)]
        if len(owners) == 2:  # a tool's JSON is kept, and its prose, which is cut, is not among it
            owners = [one for one in owners if not (one.fate == "keep" and text not in one.text)]
        assert len(owners) == 1, (path, text, owners)


@form
def test_prose_is_cut_the_newest_question_is_not_and_nothing_else_changes(value: Any) -> None:
    before = copy.deepcopy(value)
    result = EchoCompressor(rate=0.4).compress_messages(value)
    assert value == before
    assert blanked(result.value, value) == blanked(value, value)
    assert NEWEST in [text for _, text in strings(result.value)]
    old, new = dict(strings(value)), dict(strings(result.value))
    for path, text in old.items():
        assert is_subsequence(new[path], text)
        if text in (ASK, ANSWER, LISTING, DRAFT):
            assert 0 < len(new[path]) < 0.8 * len(text), path
    assert (result.outcome.status, result.outcome.compressed_tokens < result.outcome.origin_tokens) == (
        "compressed",
        True,
    )


@form
def test_at_rate_one_any_form_comes_back_unchanged(value: Any) -> None:
    compressor = EchoCompressor(rate=1.0)
    assert compressor.compress_messages(value).value == value
    encoded = json.dumps(value, indent=1)
    assert compressor.compress_messages(encoded).value == encoded


@form
def test_all_text_to_the_model_is_counted_and_what_is_opaque_is_not(value: Any) -> None:
    compressor = EchoCompressor(rate=1.0)
    outcome = compressor.compress_messages(value).outcome
    for text in [*fates(value, "cut"), *fates(value, "keep")]:
        assert text in outcome.text
    assert all(secret not in outcome.text for secret in (SIGNATURE, PIXELS, "toolu_", "call_1", "not-for-the-model"))
    assert outcome.origin_tokens >= sum(map(compressor.count, fates(value, "cut")))


@form
def test_calls_and_reasoning_are_counted_and_never_cut(value: Any) -> None:
    kept = " ".join(fates(value, "keep"))
    told = json.dumps(value)
    for text in ("They want hours.", "Opening hours", "print(7)", "hours of the library"):
        assert text in kept or text not in told
    if "Harbour" in told:
        assert '"Harbour"' in kept


@form
def test_no_text_becomes_empty_however_low_the_rate(value: Any) -> None:
    result = EchoCompressor(rate=0.001).compress_messages(value).value
    new = dict(strings(result))
    assert all(new[path].strip() for path, text in strings(value) if text.strip())


def test_a_message_of_tool_results_is_not_the_newest_question() -> None:
    result = EchoCompressor(rate=0.3).compress_messages(ANTHROPIC).value["messages"]
    assert result[4]["content"] == NEWEST
    assert len(result[6]["content"][0]["content"][0]["text"]) < 0.6 * len(LISTING)


def test_results_of_tools_have_the_rate_of_tools_whoever_says_them() -> None:
    rates = {"user": "keep", "assistant": "keep", "tool": 0.2}
    for value in (ANTHROPIC, GEMINI, BEDROCK, RESPONSES, LANGCHAIN_DUMPED):
        new = dict(strings(EchoCompressor(message_rates=rates).compress_messages(value).value))
        for path, text in strings(value):
            assert (len(new[path]) < 0.6 * len(text)) == (text == LISTING), path


@pytest.mark.parametrize(("asks", "answers"), [("USER", "CHATBOT"), ("Human", "AI"), ("customer", "agent")])
def test_roles_are_known_by_their_other_names(asks: str, answers: str) -> None:
    value = [{"role": asks, "content": ASK}, {"role": answers, "content": ANSWER}, {"role": asks, "content": NEWEST}]
    first, second, last = EchoCompressor(rate=0.3).compress_messages(value).value
    assert len(first["content"]) < 0.8 * len(ASK)
    assert len(second["content"]) < 0.8 * len(ANSWER)
    assert last["content"] == NEWEST


@pytest.mark.parametrize("name", ["human", "Human"])
def test_a_role_may_be_named_as_it_is_written_or_by_what_it_stands_for(name: str) -> None:
    value = [{"role": name, "content": ASK}, {"role": "ai", "content": ANSWER}, {"role": name, "content": NEWEST}]
    for rates in ({name: 0.2}, {"user": 0.2}):
        first, second, _ = EchoCompressor(message_rates=rates).compress_messages(value).value
        assert len(first["content"]) < 0.6 * len(ASK)
        assert second["content"] == ANSWER


def test_short_values_of_a_tools_json_stay_and_its_prose_is_cut() -> None:
    answer = {
        "status": "open",
        "url": "https://example.org/" + "a/b-" * 40,
        "rows": [{"city": "Vienna", "text": LISTING}],
    }
    value = [
        {"role": "user", "parts": [{"text": NEWEST}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": answer}}]},
    ]
    new = EchoCompressor(rate=0.3).compress_messages(value).value[1]["parts"][0]["functionResponse"]["response"]
    assert (new["status"], new["url"], new["rows"][0]["city"]) == ("open", answer["url"], "Vienna")
    assert len(new["rows"][0]["text"]) < 0.6 * len(LISTING)


def test_what_stands_under_an_unknown_key_is_kept_and_counted() -> None:
    value = [{"role": "user", "content": NEWEST, "aside": {"note": "a note nobody knows", "hashed_ip": "9f2"}}]
    assert fates(value, "keep") == ["a note nobody knows"]
    assert fates(value, "opaque") == ["user", "9f2"]


REFUSED: tuple[tuple[Any, str, str], ...] = (
    (
        [{"role": "user", "content": [{"type": "hologram", "x": PROSE}]}],
        "unknown_form",
        r"content\[0\].*'hologram'.*'x'",
    ),
    ([{"role": "user", "parts": [{"smell": PROSE}]}], "unknown_form", r"messages\[0\]\.parts\[0\].*'smell'"),
    ([{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "odd"}]}]}], "unknown_form", "'odd'"),
    ([{"role": "user", "body": PROSE}], "unknown_form", r"messages\[0\] holds no text that is known.*'body'"),
    (
        [{"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": PROSE}]}],
        "unknown_form",
        r"messages\[0\] holds no text that is known.*'blocks'",
    ),
    ([{"type": "gesture", "content": PROSE}], "unknown_form", r"messages\[0\].*'gesture'"),
    ([{"speaker": "user", "content": PROSE}], "wrong_type", r"messages\[0\].*'role'.*'speaker', 'content'"),
    ([["human", PROSE]], "wrong_type", r"messages\[0\] must be an object"),
    ({"turns": [{"role": "user", "content": PROSE}]}, "wrong_type", r"'turns'"),
    ([{"role": "narrator", "content": PROSE}], "unknown_form", r"'narrator'.*message_rates"),
    ({"conversations": [{"from": "human", "value": 3}]}, "wrong_type", r"conversations\[0\]\.value must be a string"),
    ([{"role": "ai", "tool_calls": [{"name": "f", "args": {1, 2}}]}], "wrong_type", "set is not JSON"),
    (json.dumps(json.dumps([{"role": "user", "content": PROSE}])), "wrong_type", "written as JSON twice"),
    (str([{"role": "user", "content": PROSE}]), "malformed_json", r"what Python prints.*json\.dumps"),
    ('[{"role": "user", "content": None}]', "malformed_json", r"what Python prints.*json\.dumps"),
    ("[" * 100_000, "too_deep", "nests too deeply"),
)


@pytest.mark.parametrize(("value", "reason", "named"), REFUSED)
def test_a_form_that_is_not_known_is_named(value: Any, reason: str, named: str) -> None:
    with pytest.raises(PromptError, match=named) as error:
        EchoCompressor().compress_messages(value)
    assert error.value.reason == reason


def test_a_role_of_ones_own_is_kept_beside_known_ones_and_compressed_if_it_is_named() -> None:
    value = [{"role": "critic", "content": ASK}, {"role": "user", "content": NEWEST}]
    assert EchoCompressor(rate=0.3).compress_messages(value).value == value
    named = EchoCompressor(message_rates={"critic": 0.3}).compress_messages(value[:1]).value
    assert len(named[0]["content"]) < 0.6 * len(ASK)


def test_a_conversation_of_which_nothing_may_be_cut_says_so() -> None:
    outcome = EchoCompressor(rate=0.3).compress_messages([{"role": "user", "content": PROSE}]).outcome
    assert (outcome.status, outcome.rate) == ("kept", 1.0)


def test_half_a_character_in_what_is_not_read_does_not_spoil_the_row() -> None:
    value = [{"role": "assistant", "content": ANSWER, "metadata": "half\ud83d"}, {"role": "user", "content": NEWEST}]
    result = EchoCompressor(rate=0.4).compress_messages(json.dumps(value)).value
    assert json.loads(result)[0]["metadata"] == "half\ud83d"
    assert result.encode()


MANY = " ".join([PROSE] * 4)
USER = {"role": "user", "content": NEWEST}


def said(**more: Any) -> list[dict[str, Any]]:
    return [USER, {"role": "tool", "content": "ok", **more}]


def holding(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [USER, {"role": "user", "content": list(parts)}]


KEYS = sorted({*forms.ASIDE, *forms.MARKS, *forms.SEALED, *forms.ENCODED, *forms.SPOKEN, "notesId", "no_such_key"})
OPAQUE_TYPES = [name for name, use in forms.PARTS.items() if use == "opaque"]
OPAQUE_MEMBERS = [name for name, use in forms.MEMBERS.items() if use == "opaque"]


def is_counted(value: Any, text: str = MANY) -> bool:
    """Whether the text is within the texts that a budget counts."""
    return any(json.dumps(text)[1:-1] in json.dumps(one.text) for one in read(value) if one.fate != "opaque")


@pytest.mark.parametrize("key", KEYS)
def test_prose_is_counted_under_any_key_wherever_it_stands(key: str) -> None:
    if key not in ("role", "type"):  # those are looked up, and named if they are not known
        assert is_counted(said(**{key: MANY}))
        assert is_counted(said(**{key: [MANY]}))
        assert is_counted({"messages": [USER], key: MANY})
        for kind in OPAQUE_TYPES:
            assert is_counted(holding({"type": kind, key: MANY})), kind
    for holder in forms.ASIDE:
        assert is_counted(said(**{holder: [{key: {"inner": MANY}}, {key: MANY}]})), holder
    for member in OPAQUE_MEMBERS:
        assert is_counted(holding({member: {key: MANY}})), member
    answer = {"name": "f", "response": {"a": 1}, key: MANY}
    assert is_counted([USER, {"role": "user", "parts": [{"functionResponse": answer}]}])


@pytest.mark.parametrize(
    "value",
    [
        said(annotations=[{"type": "url_citation", "text": MANY}]),
        said(citations=[{"cited_text": MANY}]),
        said(headers={"subject": MANY}),
        said(metadata={"a": ["one", [MANY]]}),
        said(metadata={MANY: 1}),
        said(**{MANY: 1}),
        holding({"type": "input_file", "filename": "a.txt", "file_data": MANY}),
        holding({"type": "file", "file": {"file_data": MANY}}),
        holding({"type": "image", "source": {"type": "blah", "body": MANY}}),
        holding({"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": MANY}}),
        [USER, {"type": "computer_call_output", "output": {"type": "input_text", "text": MANY}}],
        [USER, {"type": "image_generation_call", "result": PIXELS, "revised_prompt": MANY}],
        [USER, {"role": "assistant", "audio": {"id": "audio_1", "data": PIXELS, "transcript": MANY}}],
        [USER, {"role": "assistant", "content": "ok", "reasoning_content": "data:x, " + MANY}],
        said(additional_kwargs={"tool_calls": [{"function": {"name": "f", "arguments": MANY}}]}, tool_calls=[{}]),
    ],
)
def test_prose_beside_what_is_opaque_is_counted(value: Any) -> None:
    assert is_counted(value)


@pytest.mark.parametrize(
    "value",
    [
        [USER, {"role": "user", "parts": [{"functionResponse": {"response": "ACGT" * 1000}}]}],
        [USER, {"role": "user", "parts": [{"functionResponse": {"response": {"data": "ACGT" * 1000}}}]}],
        said(data="ACGT" * 1000),
        [USER, {"role": "assistant", "content": "ok", "reasoning_content": "ACGT" * 1000}],
        holding({"type": "audio", "transcript": "ACGT" * 1000}),
        holding({"type": "document", "source": {"type": "text", "data": "ACGT" * 1000}}),
    ],
)
def test_a_text_is_not_taken_for_base64_where_nothing_says_that_it_is(value: Any) -> None:
    assert is_counted(value, "ACGT" * 1000)


def test_a_sentence_without_spaces_is_no_mark_and_neither_is_one_word_that_is_said() -> None:
    for text, key in (("委員会はウィーンで会合を開き、石炭の価格を決めた。", "status"), ("Yes", "transcript")):
        assert is_counted(holding({"type": "audio", key: text}), text)


def test_a_source_of_an_unknown_type_is_named() -> None:
    with pytest.raises(PromptError, match=r"content\[0\]\.source has the type 'blah'.*'body'") as error:
        list(read(holding({"type": "document", "source": {"type": "blah", "body": PROSE}})))
    assert error.value.reason == "unknown_form"


LONG_BASE64 = PIXELS.rstrip("=") * 40


@pytest.mark.parametrize(
    "value",
    [
        said(id="chatcmpl-9xJ2", created_at="Mon, 05 Jan 2026 10:00:00 GMT", status="in_progress"),
        said(timestamp="2026-01-05 10:00:00+00:00", model="meta-llama/Llama-3.1-8B", date="January 5, 2026"),
        said(metadata={"url": "https://example.org/a?" + "x=1&" * 300, "sha256": "9f" * 32, "tags": ["a", "b"]}),
        said(logprobs={"content": [{"token": " the", "top_logprobs": [{"token": "委員会", "bytes": [1]}]}]}),
        holding({"type": "input_audio", "input_audio": {"data": LONG_BASE64, "format": "wav"}}),
        holding({"type": "image_url", "image_url": {"url": "data:image/png;base64," + LONG_BASE64, "detail": "low"}}),
        holding({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": LONG_BASE64}}),
        holding({"type": "image", "data": LONG_BASE64, "mimeType": "image/png"}),
        holding(
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": LONG_BASE64}}
        ),
        holding({"type": "input_file", "filename": "a.pdf", "file_data": LONG_BASE64}),
        holding({"image": {"format": "png", "source": {"bytes": LONG_BASE64}}}),
        holding({"inlineData": {"mimeType": "audio/L16; rate=24000", "data": LONG_BASE64}}),
        holding({"type": "redacted_thinking", "data": LONG_BASE64}),
        said(reasoning_details=[{"type": "reasoning.encrypted", "data": LONG_BASE64, "format": "x-v1", "id": "r_1"}]),
        said(encryptedContent=LONG_BASE64, redacted_content=LONG_BASE64),
        said(thinking_blocks=[{"type": "thinking", "signature": LONG_BASE64}]),
        [USER, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": LONG_BASE64}],
        [USER, {"type": "image_generation_call", "id": "ig_1", "result": LONG_BASE64}],
        [USER, {"type": "computer_call_output", "output": {"type": "x", "image_url": "data:image/png;base64,AAAA"}}],
    ],
)
def test_what_real_messages_hold_beside_their_text_is_not_counted(value: Any) -> None:
    known = {NEWEST, "ok"}
    told = {"a.pdf", "x-v1", "thinking", "reasoning.encrypted"}
    assert {one.text for one in read(value) if one.fate != "opaque"} <= known | told


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.lists(JSON, max_size=3))
def test_whatever_stands_in_a_message_is_accounted_for_or_refused(extra: dict[str, Any], content: list[Any]) -> None:
    value = [{**extra, "role": "user", "content": content}, {"role": "user", "content": "x", "more": content}]
    try:
        found = list(read(value))
    except PromptError:
        return
    for path, _ in strings(value):
        assert sum(covers(one, path) for one in found) == 1


@given(
    st.lists(st.sampled_from(KEYS) | st.text(max_size=8) | st.just(0), min_size=1, max_size=5),
    st.sampled_from(OPAQUE_TYPES),
)
def test_prose_is_never_free_whatever_the_keys_that_lead_to_it(keys: list[str | int], kind: str) -> None:
    nested: Any = MANY
    for key in reversed(keys):
        nested = [nested] if isinstance(key, int) else {key: nested}
    for value in (
        said(more=nested),
        said(metadata=nested),
        holding({"type": kind, "more": nested}),
        said(content=nested),
    ):
        with contextlib.suppress(PromptError):  # named, not free
            assert is_counted(value)
