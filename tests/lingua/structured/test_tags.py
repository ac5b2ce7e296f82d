"""Tags: what a well-formed text means, what is said of a malformed one, and that no text is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingua.errors import PromptError
from lingua.structured.pieces import TextPiece
from lingua.structured.streams import stream
from lingua.structured.tags import parse
from tests.lingua.structured.echo_face import LONG_LINE, PROSE, STRINGS, EchoCompressor, is_subsequence

OPENINGS = st.sampled_from(
    ("<llmlingua>", "<llmlingua, rate=0.3>", "<llmlingua,compress=False>", "<llmlingua , compress = True , rate=.5 >")
)
UNTAGGED = [*(text for text in STRINGS if "llmlingua" not in text), LONG_LINE]
SCRAPS = st.lists(
    st.sampled_from(
        ("<", ">", "</", "llmlingua", "<llmlingua", "</llmlingua>", ", rate=", "0.5", "compress", "a b", "é\n")
    )
)


@pytest.mark.parametrize(
    ("opening", "rate"),
    [
        ("<llmlingua>", None),
        ("<llmlingua, rate=0.4>", 0.4),
        ("<llmlingua, compress=True>", None),
        ("<llmlingua, compress=False>", 1.0),
        ("<llmlingua, rate=0.4, compress=False>", 1.0),
        ("<llmlingua,compress=true,rate=1>", 1.0),
        ("<llmlingua , rate = .25 >", 0.25),
        ("<llmlingua, rate=0>", 0.0),
    ],
)
def test_a_tag_gives_its_text_a_rate(opening: str, rate: float | None) -> None:
    assert parse(f"{opening}some text</llmlingua>") == [TextPiece("some text", rate)]


def test_text_outside_of_tags_has_the_configured_rate_and_white_space_at_the_borders_stays() -> None:
    pieces = parse("before <llmlingua, rate=0.5>in it</llmlingua> after")
    assert pieces == [
        TextPiece("before", None),
        TextPiece(" ", 1.0),
        TextPiece("in it", 0.5),
        TextPiece(" ", 1.0),
        TextPiece("after", None),
    ]


def test_text_may_hold_angle_brackets_and_words_that_begin_like_a_tag() -> None:
    text = "a < b, <b>bold</b>, <llmlinguas>, <llmlingua-2> & </llmlingua2>"
    assert parse(f"<llmlingua, compress=False>{text}</llmlingua>") == [TextPiece(text, 1.0)]


@pytest.mark.parametrize(
    ("text", "position", "fault"),
    [
        ("x <llmlingua>a", 2, "never closed"),
        ("x</llmlingua>", 1, "no tag is open"),
        ("<llmlingua>a<llmlingua>b</llmlingua></llmlingua>", 12, "do not nest"),
        ("<llmlingua>a</llmlingua></llmlingua>", 24, "no tag is open"),
        ("<llmlingua, rate=1.5>a</llmlingua>", 0, "rate=1.5"),
        ("<llmlingua, rate=half>a</llmlingua>", 0, "rate=half"),
        ("<llmlingua, compress=maybe>a</llmlingua>", 0, "compress=maybe"),
        ("<llmlingua, speed=1>a</llmlingua>", 0, "'speed'"),
        ("<llmlingua, rate=0.1, rate=0.2>a</llmlingua>", 0, "twice"),
        ("<llmlingua rate=0.1>a</llmlingua>", 0, "write <llmlingua"),
        ("<llmlingua, rate=0.1", 0, "write <llmlingua"),
        ("<llmlingua,>a</llmlingua>", 0, "''"),
        ("<llmlingua>a</llmlingua", 12, "write </llmlingua>"),
    ],
)
def test_a_malformed_tag_is_an_error_with_its_position(text: str, position: int, fault: str) -> None:
    with pytest.raises(PromptError, match=re.escape(fault)) as error:
        parse(text)
    assert error.value.reason == "malformed_tag"
    assert f"character {position} " in error.value.detail


def test_the_position_is_given_as_line_and_column_too() -> None:
    with pytest.raises(PromptError, match=r"line 3, column 4\)"):
        parse("one\ntwo\nabc</llmlingua>")


@given(SCRAPS.map("".join))
def test_any_text_is_parsed_without_loss_or_is_a_malformed_tag(text: str) -> None:
    try:
        pieces = parse(text)
    except PromptError as error:
        fault = error.reason
    else:
        fault = "none"
        assert "".join(piece.text for piece in pieces) == re.sub(r"</?llmlingua(?![\w-])[^<>]*>", "", text)
    assert fault in ("none", "malformed_tag")


@given(st.lists(st.tuples(st.one_of(st.none(), OPENINGS), st.text())))
def test_tagged_texts_come_out_without_their_tags_and_otherwise_unchanged(parts: list[tuple[str | None, str]]) -> None:
    parts = [(opening, text.replace("llmlingua", "")) for opening, text in parts]
    tagged = "".join(text if opening is None else f"{opening}{text}</llmlingua>" for opening, text in parts)
    assert "".join(piece.text for piece in parse(tagged)) == "".join(text for _, text in parts)


@pytest.mark.parametrize(
    "text", [*(text for text in STRINGS if "llmlingua" not in text), LONG_LINE], ids=lambda t: repr(t[:12])
)
def test_at_rate_one_the_text_comes_back_byte_for_byte(text: str) -> None:
    compressor = EchoCompressor(rate=1.0)
    assert compressor.compress_structured(text).value == text
    tagged = f"{text}<llmlingua, compress=False>{text}</llmlingua><llmlingua, rate=1.0>{text}</llmlingua>"
    assert compressor.compress_structured(tagged).value == text * 3


def test_every_tag_keeps_its_rate_and_verbatim_text_is_untouched() -> None:
    text = (
        f"<llmlingua, compress=False>[[{PROSE}]]</llmlingua><llmlingua, rate=0.2>{PROSE}</llmlingua>"
        f"<llmlingua, compress=False>[[</llmlingua><llmlingua, rate=0.8>{PROSE}</llmlingua>"
    )
    result = EchoCompressor(rate=0.5, method="llmlingua").compress_structured(text)
    verbatim, low, high = result.value.partition(f"[[{PROSE}]]")[1:][0], *result.value.split("]]")[1].split("[[")
    assert verbatim == f"[[{PROSE}]]"
    assert 0.05 < len(low) / len(PROSE) < 0.35
    assert 0.65 < len(high) / len(PROSE) < 0.95
    assert is_subsequence(low, PROSE)
    assert is_subsequence(high, PROSE)
    assert result.outcome.compressed_tokens <= result.outcome.target_tokens


def test_a_rate_of_zero_keeps_nothing_of_its_text_even_if_the_budget_has_room() -> None:
    result = EchoCompressor(rate=0.9).compress_structured(f"{PROSE}<llmlingua, rate=0>secret secret</llmlingua>")
    assert "secret" not in result.value


def test_a_target_is_a_ceiling_for_tagged_and_untagged_text_together() -> None:
    text = f"{PROSE} <llmlingua, rate=0.9>{PROSE}</llmlingua>"
    result = EchoCompressor(target_token=30).compress_structured(text)
    assert result.outcome.compressed_tokens <= 30
    assert (
        EchoCompressor(target_token=10_000).compress_structured(text).outcome.compressed_tokens
        < 0.97 * result.outcome.origin_tokens
    )


def test_a_malformed_text_is_rejected_in_a_stream_and_its_neighbours_go_on() -> None:
    compressor = EchoCompressor(rate=0.5)
    values = ["<llmlingua>", PROSE, "</llmlingua>", PROSE, "<llmlingua, x>"]
    results = list(stream(compressor, compressor.structure("structured"), values))
    assert [getattr(result, "reason", "compressed") for result in results] == [
        "malformed_tag", "compressed", "malformed_tag", "compressed", "malformed_tag",
    ]  # fmt: skip


def test_something_that_is_no_string_is_refused() -> None:
    with pytest.raises(PromptError, match="must be a string, not int"):
        EchoCompressor().compress_structured(3)  # type: ignore[arg-type]
