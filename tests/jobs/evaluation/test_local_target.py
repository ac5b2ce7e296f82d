"""A model in the process as a target: its likelihoods and words are those of a plain forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs.evaluation.local_target import LocalTarget
from jobs.generation import batches
from lingua.models.load import Loader
from lingua.models.source import resolve
from tests.models import WINDOW, fast_tokenizer, save

PROMPTS = ["The river runs", "Who was born in Warsaw, and when? Say it in a few words."]
ANSWERS = [" slowly", " Marie Curie"]


@pytest.fixture(scope="module", params=["llama", "gemma3 sliding", "bloom"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def target(folder: Path) -> LocalTarget:
    return LocalTarget("tiny", Loader(resolve(str(folder)), "cpu", "float32"))


def ids_of(text: str) -> list[int]:
    return list(fast_tokenizer()(text, add_special_tokens=False)["input_ids"])


def plain_nll(folder: Path, prompt: str, answer: str) -> float:
    """By the untouched model, the whole sequence at once."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    head, tail = [0, *ids_of(prompt)], ids_of(answer)
    with torch.inference_mode():
        logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
    return float(-torch.log_softmax(logits.double(), -1).gather(1, torch.tensor(tail)[:, None]).sum())


def test_likelihoods_are_those_of_a_plain_forward_pass(target: LocalTarget, folder: Path) -> None:
    expected = [plain_nll(folder, *pair) for pair in zip(PROMPTS, ANSWERS, strict=True)]
    assert target.nll(PROMPTS, ANSWERS) == pytest.approx(expected, abs=1e-3)


def test_company_changes_nothing(target: LocalTarget) -> None:
    alone = [target.nll([prompt], [answer])[0] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    assert target.nll(PROMPTS * 2, ANSWERS * 2) == pytest.approx(alone * 2, abs=1e-3)


def test_what_is_generated_is_the_likeliest_token_each_time(target: LocalTarget, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = []
    for prompt in PROMPTS:
        ids = [0, *ids_of(prompt)]
        for _ in range(5):
            with torch.inference_mode():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == fast_tokenizer().eos_token_id:
                break
        expected.append(fast_tokenizer().decode(ids[1 + len(ids_of(prompt)) :], skip_special_tokens=True))
    assert target.generate(PROMPTS, 5, []) == expected


def test_a_reply_ends_before_its_stop_string(target: LocalTarget) -> None:
    (whole,) = target.generate(PROMPTS[:1], 6, [])
    stop = next(sign for sign in whole[::-1] if sign != "\ufffd")
    (cut,) = target.generate(PROMPTS[:1], 6, ["", "no such string", stop])
    assert cut == whole[: whole.find(stop)]


def test_generating_leaves_likelihoods_as_they_were(target: LocalTarget) -> None:
    before = target.nll(PROMPTS, ANSWERS)
    target.generate(PROMPTS, 2, [])
    assert target.nll(PROMPTS, ANSWERS) == pytest.approx(before, abs=1e-4)


def test_a_prompt_beyond_the_window_loses_its_beginning(tmp_path: Path) -> None:
    small = LocalTarget("tiny", Loader(resolve(str(save(tmp_path))), "cpu", "float32"))
    (value,) = small.nll(["word " * 4 * WINDOW], [" end"])
    (reply,) = small.generate(["word " * 4 * WINDOW], 2, [])
    assert value > 0
    assert isinstance(reply, str)


def test_batches_hold_prompts_of_similar_length_longest_first() -> None:
    assert list(batches([10, 100, 95, 11, 9], 8)) == [[1, 2], [3, 0, 4]]
    assert [len(batch) for batch in batches([5] * 20, 8)] == [8, 8, 4]
