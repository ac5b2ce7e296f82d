"""Responses are written in chunks, committed in one step, and never written twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun, RowError
from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.examples import Example
from jobs.training.responses import chunks, missing, read_responses, write_chunk
from jobs.training.target import LocalWriter
from tests import models

EXAMPLES = [Example(f"Ask {number}\n", "") for number in range(7)]


@dataclass
class Echo:
    """A target that shouts; it refuses some prompts and has nothing to say to others."""

    refuses: str = "never"
    silent: str = "never"
    asked: list[str] = field(default_factory=list)

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        if self.refuses in prompts:
            raise RowError("endpoint_refused", "no")
        self.asked.extend(prompts)
        return ["" if prompt == self.silent else prompt.upper()[:max_tokens] for prompt in prompts]


def config(tmp_path: Path, **settings: Any) -> AlignConfig:
    given = {"input": "rows.jsonl", "output": str(tmp_path), "target": str(models.save(tmp_path / "target"))}
    return AlignConfig(**{**given, "chunk_rows": 3, "response_tokens": 5, **settings})


def respond(settings: AlignConfig, writer: Echo, most: int = 99) -> list[Example]:
    storage, wanted = Storage(), chunks(EXAMPLES, settings)
    for chunk in missing(wanted, settings, storage)[:most]:
        write_chunk(chunk, writer, settings, storage)
    return read_responses(wanted, storage) if most > len(wanted) else []


def test_all_prompts_get_their_response_in_order(tmp_path: Path) -> None:
    found = respond(config(tmp_path), Echo())
    assert found == [Example(example.before, example.before.upper()[:5]) for example in EXAMPLES]


def test_what_is_committed_is_not_asked_again(tmp_path: Path) -> None:
    settings, first, second = config(tmp_path), Echo(), Echo()
    respond(settings, first, most=2)
    assert len(respond(settings, second)) == len(EXAMPLES)
    assert first.asked + second.asked == [example.before for example in EXAMPLES]


@pytest.mark.parametrize("change", [{"response_tokens": 6}, {"temperature": 0.5}, {"stop": ("\n",)}, {"seed": 1}])
def test_responses_under_other_settings_are_others(tmp_path: Path, change: dict[str, Any]) -> None:
    respond(config(tmp_path), Echo())
    again = Echo()
    respond(config(tmp_path, **change), again)
    assert len(again.asked) == len(EXAMPLES)


def test_a_prompt_that_is_refused_or_gets_no_answer_is_left_out(tmp_path: Path) -> None:
    found = respond(config(tmp_path), Echo(refuses="Ask 1\n", silent="Ask 5\n"))
    assert [example.before for example in found] == [f"Ask {number}\n" for number in (0, 2, 3, 4, 6)]


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    settings = config(tmp_path)
    wanted = chunks(EXAMPLES, settings)
    respond(settings, Echo())
    Path(wanted[1].url).write_text('{"prompt": "Ask')
    with pytest.raises(AbortRun, match=rf"{wanted[1].name}: is no file of responses"):
        read_responses(wanted, Storage())


def test_a_model_in_process_draws_the_same_responses_from_the_same_seed(tmp_path: Path) -> None:
    prompts = ["The committee met in", "Her numbers"]
    first, second = (LocalWriter(config(tmp_path)).generate(prompts, 12, ()) for _ in range(2))
    assert first == second
    assert LocalWriter(config(tmp_path, seed=1)).generate(prompts, 12, ()) != first


def test_a_response_of_a_model_in_process_ends_before_a_stop_string(tmp_path: Path) -> None:
    writer = LocalWriter(config(tmp_path, temperature=0))
    (whole,) = writer.generate(["The committee met in"], 12, ())
    middle = whole[len(whole) // 2]
    assert writer.generate(["The committee met in"], 12, (middle,)) == [whole[: whole.index(middle)]]


def test_greedy_responses_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    writer = LocalWriter(config(tmp_path, temperature=0))
    prompts = ["The committee", "A clerk asked whether the barges could wait; the answer"]
    assert writer.generate(prompts, 8, ()) == [text for prompt in prompts for text in writer.generate([prompt], 8, ())]
