"""Chat: who is compressed, what stays as it is, and one budget for the whole conversation."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lingua.errors import ConfigError, PromptError
from lingua.prompt import CompressedPrompt
from lingua.structured.messages import Messages
from tests.lingua.echo import tokenizer
from tests.lingua.structured.echo_face import LONG_LINE, PROSE, STRINGS, EchoCompressor, is_subsequence


def talk(turns: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Answer briefly. " + PROSE}]
    for turn in range(turns):
        messages.append({"role": "user", "content": f"Question {turn}: {PROSE}", "name": "ada"})
        messages.append({"role": "assistant", "content": f"Answer {turn}: {PROSE} {PROSE}"})
    return messages


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
AGENT: list[dict[str, Any]] = [
    {"role": "developer", "content": [{"type": "text", "text": PROSE}]},
    {
        "role": "user",
        "content": [{"type": "text", "text": PROSE}, {"type": "image_url", "image_url": {"url": "data:,"}}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"q": PROSE})}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": PROSE + " " + PROSE},
    {"role": "assistant", "content": [{"type": "output_text", "text": PROSE}, {"type": "refusal", "refusal": PROSE}]},
    {"role": "critic", "content": PROSE},
    {"role": "user", "content": "And now? " + PROSE},
]


def without_text(messages: Any) -> Any:
    """The conversation with its compressible texts blanked."""
    blank = copy.deepcopy(messages)
    for message in blank:
        if isinstance(message.get("content"), str):
            message["content"] = "…"
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if "text" in part:
                part["text"] = "…"
    return blank


def share(result: Any, messages: Any, number: int) -> float:
    return tokenizer().count(result[number]["content"]) / tokenizer().count(messages[number]["content"])


def test_system_prompt_newest_question_and_unnamed_roles_are_untouched_by_default() -> None:
    result = EchoCompressor(rate=0.3).compress_messages(AGENT).value
    for number in (0, 5, 6):
        assert result[number] == AGENT[number]
    for old, new in (
        (AGENT[1]["content"][0]["text"], result[1]["content"][0]["text"]),
        (AGENT[3]["content"], result[3]["content"]),
    ):
        assert is_subsequence(new, old)
        assert len(new) < len(old)


def test_structure_ids_images_and_tool_calls_stay_and_the_input_is_not_changed() -> None:
    before = copy.deepcopy(AGENT)
    result = EchoCompressor(rate=0.2).compress_messages(AGENT).value
    assert before == AGENT
    assert without_text(result) == without_text(AGENT)


def test_roles_have_rates_of_their_own() -> None:
    messages = talk(3)
    rates = {"system": 0.5, "user": "keep", "assistant": 0.2}
    result = EchoCompressor(message_rates=rates).compress_messages(messages).value
    assert 0.3 < share(result, messages, 0) < 0.7
    assert [result[number] for number in (1, 3, 5)] == [messages[number] for number in (1, 3, 5)]
    assert all(0.05 < share(result, messages, number) < 0.4 for number in (2, 4, 6))


def test_the_newest_user_message_is_compressed_if_asked() -> None:
    messages = talk(2)
    result = (
        EchoCompressor(rate=0.4, message_rates={"user": "compress", "newest_user": "compress"})
        .compress_messages(messages)
        .value
    )
    assert share(result, messages, 3) < 0.7


def test_a_target_holds_for_all_texts_of_the_conversation_together() -> None:
    compressor = EchoCompressor(target_token=300)
    result = compressor.compress_messages(talk(4))
    assert sum(compressor.count(message["content"]) for message in result.value) <= 300
    assert 285 <= result.outcome.compressed_tokens <= 300
    assert result.outcome.status == "compressed"


def test_tool_calls_count_towards_the_target() -> None:
    compressor = EchoCompressor(target_token=400)
    outcome = compressor.compress_messages(AGENT).outcome
    assert outcome.origin_tokens > sum(compressor.count(PROSE) for _ in range(8))
    assert outcome.compressed_tokens <= 400


@pytest.mark.parametrize("text", [*STRINGS, LONG_LINE], ids=lambda t: repr(t[:12]))
def test_at_rate_one_a_conversation_comes_back_unchanged(text: str) -> None:
    messages = [
        *talk(1),
        {"role": "user", "content": text},
        {"role": "tool", "content": [{"type": "text", "text": text}]},
    ]
    compressor = EchoCompressor(rate=1.0)
    assert compressor.compress_messages(messages).value == messages
    encoded = json.dumps(messages, indent=2)
    assert compressor.compress_messages(encoded).value == encoded


@pytest.mark.parametrize("text", STRINGS, ids=lambda t: repr(t[:12]))
def test_nasty_texts_are_cut_without_new_characters(text: str) -> None:
    messages = [{"role": "assistant", "content": f"{PROSE} {text}"}, {"role": "user", "content": text}]
    result = EchoCompressor(rate=0.5).compress_messages(messages).value
    assert result[1]["content"] == text
    assert is_subsequence(result[0]["content"], messages[0]["content"])


def test_json_text_of_a_conversation_gives_json_text() -> None:
    result = EchoCompressor(rate=0.5).compress_messages(json.dumps(talk(2))).value
    assert without_text(json.loads(result)) == without_text(talk(2))


def test_an_empty_conversation_is_left_alone() -> None:
    assert EchoCompressor(rate=0.5).compress_messages([]).value == []
    empty = [{"role": "user", "content": ""}, {"role": "assistant", "content": None}]
    assert EchoCompressor(rate=0.5).compress_messages(empty).value == empty


@pytest.mark.parametrize(
    ("messages", "reason", "named"),
    [
        ("not json", "malformed_json", "JSON"),
        ({"role": "user"}, "wrong_type", "list"),
        ([{"content": "a"}], "wrong_type", r"messages\[0\].*role"),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": 3}],
            "wrong_type",
            r"messages\[1\].content.*int",
        ),
        ([{"role": "user", "content": [3]}], "wrong_type", r"messages\[0\].content\[0\]"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "wrong_type", r"content\[0\].text"),
        ([{"role": "user", "content": "\ud800"}], "invalid_unicode", "surrogate"),
    ],
)
def test_what_is_no_conversation_is_refused_naming_the_place(messages: Any, reason: str, named: str) -> None:
    with pytest.raises(PromptError, match=named) as error:
        EchoCompressor().compress_messages(messages)
    assert error.value.reason == reason


def test_json_text_of_more_values_than_memory_should_hold_is_refused_unread() -> None:
    with pytest.raises(PromptError, match="messages are JSON text of more than 4,000,000 values") as caught:
        Messages({}).decompose("[" + "{}," * 2_500_000 + "{}]")
    assert caught.value.reason == "too_many_values"


def test_a_role_cannot_be_dropped() -> None:
    with pytest.raises(ConfigError, match=r"message_rates.*'drop'"):
        EchoCompressor(message_rates={"tool": "drop"})


def test_numbers_beside_the_messages_of_a_json_text_keep_their_digits() -> None:
    talked = (
        '{"messages": [{"role": "user", "content": "one two three"}], "p": 0.12345678901234567890123, "big": 1e400}'
    )
    messages = Messages({"newest_user": "compress"})
    prompt = messages.decompose(talked)
    kept = CompressedPrompt("", "", (), "", (), (((0, 3),),), 1, 1, 1)
    assert len(prompt.context) == 1
    assert messages.reassemble(talked, kept) == talked.replace("one two three", "one")
