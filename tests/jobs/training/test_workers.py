"""Groups of rows are committed once: a killed run does the rest, and nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import AbortRun, RowError
from cluster.output.folder import RunFolder
from cluster.placement import Machine
from jobs.training.alignment import LocalWriter, response_lines
from jobs.training.settings import AlignConfig
from jobs.training.workers import Groups, Rank, staff
from lingua.errors import ConfigError
from tests import models

ROWS = [f"text {number}" for number in range(10)]


@dataclass
class Counting:
    """Work that remembers what it was shown, and dies before it is shown `deadly`."""

    deadly: str | None = None
    shown: list[str] = field(default_factory=list)
    starts: int = 0

    def start(self) -> Callable[[Sequence[str]], list[str]]:
        self.starts += 1
        return self

    def __call__(self, rows: Sequence[str]) -> list[str]:
        if self.deadly in rows:
            raise KeyboardInterrupt
        self.shown += rows
        return [f'{{"text": "{row}"}}' for row in rows]


def make(folder: Path, work: Counting, rank: int = 0, world: int = 1) -> Groups:
    groups = Groups(RunFolder(str(folder), "test"), "labels")
    groups.make(ROWS, 3, Rank(rank, world), work.start)
    return groups


def test_all_rows_are_done_in_their_order(tmp_path: Path) -> None:
    groups = make(tmp_path, Counting())
    assert [row["text"] for row in groups.read()] == ROWS
    assert groups.missing() == 0


def test_a_killed_run_is_completed_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    killed, second, third = Counting(deadly="text 6"), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, killed)
    groups = make(tmp_path, second)
    assert killed.shown + second.shown == ROWS
    assert [row["text"] for row in groups.read()] == ROWS
    make(tmp_path, third)
    assert third.starts == 0


def test_workers_share_the_groups_and_nobody_trains_on_half_of_them(tmp_path: Path) -> None:
    groups = Groups(RunFolder(str(tmp_path), "test"), "labels")
    assert groups.missing() == 1
    first, second = Counting(), Counting()
    make(tmp_path, first, 0, 2)
    with pytest.raises(AbortRun, match="2 groups are missing"):
        list(groups.read())
    make(tmp_path, second, 1, 2)
    assert sorted(first.shown + second.shown) == ROWS
    assert groups.missing() == 0


def test_a_damaged_group_is_named(tmp_path: Path) -> None:
    groups = make(tmp_path, Counting())
    (tmp_path / "labels" / "group-000001.jsonl").write_text('{"text": "te')
    with pytest.raises(AbortRun, match=r"group-000001\.jsonl is damaged"):
        list(groups.read())


# ---- responses


class Echo:
    """A target that shouts, and refuses a prompt."""

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        if "bad" in prompts:
            raise RowError("endpoint_refused", "no")
        return [prompt.upper()[:max_tokens] for prompt in prompts]


def target(folder: Path, **settings: object) -> AlignConfig:
    model = folder / "target" if (folder / "target").exists() else models.save(folder / "target")
    return AlignConfig(**{"input": "rows.jsonl", "output": str(folder), "target": str(model), **settings})


def test_a_prompt_that_is_refused_gets_an_empty_response_and_the_others_theirs(tmp_path: Path) -> None:
    lines = response_lines(Echo(), target(tmp_path, response_tokens=3), ["good one", "bad", "other"])
    assert lines == [
        '{"prompt": "good one", "response": "GOO"}',
        '{"prompt": "bad", "response": ""}',
        '{"prompt": "other", "response": "OTH"}',
    ]


def test_a_model_in_process_draws_the_same_responses_from_the_same_seed(tmp_path: Path) -> None:
    prompts = ["The committee met in", "Her numbers"]
    first, second, third = (
        LocalWriter(target(tmp_path, seed=seed), Rank()).generate(prompts, 12, ()) for seed in (0, 0, 1)
    )
    assert first == second
    assert third != first


def test_a_response_of_a_model_in_process_ends_before_a_stop_string(tmp_path: Path) -> None:
    writer = LocalWriter(target(tmp_path, temperature=0), Rank())
    (whole,) = writer.generate(["The committee met in"], 12, ())
    middle = whole[len(whole) // 2]
    assert writer.generate(["The committee met in"], 12, (middle,)) == [whole[: whole.index(middle)]]


def test_greedy_responses_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    writer = LocalWriter(target(tmp_path, temperature=0), Rank())
    prompts = ["The committee", "A clerk asked whether the barges could wait; the answer"]
    assert writer.generate(prompts, 8, ()) == [text for prompt in prompts for text in writer.generate([prompt], 8, ())]


@pytest.mark.parametrize("asked", [{"gpus_per_worker": 1}, {"cpus_per_worker": 9}, {"workers": 3}])
def test_workers_that_can_never_be_had_on_this_machine_are_refused(
    tmp_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.run import pool

    @contextmanager
    def session() -> Iterator[bool]:
        yield True

    monkeypatch.setattr(pool, "session", session)
    monkeypatch.setattr(pool, "machines", lambda: [Machine(gpus=0, cpus=2)])
    monkeypatch.setattr(pool.ray, "cluster_resources", lambda: {"CPU": 2.0})
    refused = pytest.raises(ConfigError, match="this machine has 0 GPUs and 2 CPUs")
    with refused, staff(AlignConfig(input="rows.jsonl", output=str(tmp_path), **asked)):
        pytest.fail("it was begun")
