"""Candidates and targets as users write them."""

from __future__ import annotations

import pytest

from jobs.evaluation.specs import BASES, parse_candidate, parse_target
from lingua.errors import ConfigError


@pytest.mark.parametrize("name", BASES)
def test_every_base_is_a_candidate_by_its_name_alone(name: str) -> None:
    candidate = parse_candidate(name)
    assert (candidate.name, candidate.kind) == (name, "config")
    assert candidate.config().instruction_rate == candidate.config().question_rate == 1.0


def test_settings_are_read_as_their_types() -> None:
    candidate = parse_candidate("mine: method=llmlingua unit=sentence context_budget=*1.5 force_tokens='[a, \"b c\"]'")
    config = candidate.config()
    assert (config.method, config.unit, config.flat()["context_budget"]) == ("llmlingua", "sentence", "*1.5")
    assert config.force_tokens == ("a", "b c")


def test_a_base_is_changed_by_what_follows_it() -> None:
    config = parse_candidate("whole: paper unit=word").config()
    assert (config.unit, config.flat()["context_budget"]) == ("word", "*2")


def test_only_the_context_is_cut_whatever_a_preset_says() -> None:
    assert parse_candidate("paper").config().question_rate == 1.0


def test_a_candidate_may_have_a_model_of_its_own() -> None:
    candidate = parse_candidate("encoder: method=llmlingua2 model=./folder")
    assert candidate.model == "./folder"
    assert "model" not in candidate.settings


def test_a_peer_takes_the_options_of_the_library() -> None:
    candidate = parse_candidate("long: peer-aware context_budget=+200")
    assert (candidate.kind, candidate.settings["context_budget"]) == ("peer", "+200")
    assert candidate.settings["rank_method"] == "longllmlingua"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine: unit=paragraph", r"candidate 'mine': unit = 'paragraph'"),
        ("mine: colour=red", r"candidate 'mine': unknown setting 'colour'"),
        ("mine: rate=0.5", r"candidate 'mine': remove rate"),
        ("mine: nobody unit=word", r"candidate 'mine': there is no base 'nobody'; there are default"),
        ("full", r"candidate 'full' is a reference"),
        ("a/b: unit=word", r"a name is made of letters"),
        ("mine: sentences rank_method=bm26", r"candidate 'mine': rank_method = 'bm26'.*bm25"),
        ("mine: sentences rank_method=longllmlingua", r"candidate 'mine': sentences are ranked by bm25, embedding"),
        ("mine: sentences unit=word", r"sentences are chosen by rank_method alone; remove unit"),
        ("mine: unit='word", r"No closing quotation"),
    ],
)
def test_what_is_wrong_with_a_candidate_is_said_with_its_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_candidate(text)


def test_a_candidates_identity_holds_what_its_results_depend_on() -> None:
    assert parse_candidate("a: unit=word").identity() == parse_candidate("b: default").identity()
    assert parse_candidate("a: unit=token").identity() != parse_candidate("a:").identity()


@pytest.mark.parametrize(
    ("text", "name", "model"),
    [
        ("gemma3-270m", "gemma3-270m", "gemma3-270m"),
        ("Qwen/Qwen2.5-0.5B", "Qwen2-5-0-5B", "Qwen/Qwen2.5-0.5B"),
        ("./models/mine/", "mine", "./models/mine/"),
        ("big: model=org/big dtype=bfloat16", "big", "org/big"),
    ],
)
def test_a_target_has_a_name_that_results_can_carry(text: str, name: str, model: str) -> None:
    target = parse_target(text)
    assert (target.name, target.settings["model"], target.remote) == (name, model, False)


def test_a_target_with_an_address_is_an_endpoint() -> None:
    target = parse_target("gpt: url=http://localhost:8000/v1 model=m mode=chat concurrency=4")
    assert target.remote
    assert target.settings == {"url": "http://localhost:8000/v1", "model": "m", "mode": "chat", "concurrency": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: dtype=float32", r"target 'x': which model"),
        ("x: model=m heat=1", r"target 'x': unknown setting 'heat'"),
    ],
)
def test_what_is_wrong_with_a_target_is_said_with_its_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_target(text)
