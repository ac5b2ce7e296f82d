"""Settings from flags, a file and a preset; what does not fit together is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.placement import ResourceRequest
from jobs.evaluation.ledger import needs_in, waves
from jobs.evaluation.settings import EvalConfig
from lingua.errors import ConfigError

LEAST = ["--data", "a=rows.jsonl", "--output", "memory://out"]


def test_little_is_needed() -> None:
    config = EvalConfig.load(LEAST)
    assert config.data == {"a": "rows.jsonl"}
    assert config.sizes == (0.35,)
    assert EvalConfig.load([*LEAST, "--rate", "0.5", "--rate", "0.5"]).sizes == (0.5,)
    assert [one.name for one in config.all_candidates][:3] == ["full", "nothing", "default"]


def test_flags_may_be_repeated() -> None:
    config = EvalConfig.load([*LEAST, "--data", "b=x", "--rate", "0.5", "--rate", ".2", "--tokens", "100"])
    assert list(config.data) == ["a", "b"]
    assert config.sizes == (0.5, 0.2, 100.0)


def test_a_file_says_the_same_and_flags_prevail(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(
        "data: {a: rows.jsonl}\noutput: memory://out\nrate: [0.5, 0.25]\ntokens: 100\nlimit: 7\n"
        "candidates:\n  sentence: {unit: sentence}\n  whole: {base: paper, unit: word}\n  peer:\n  lead: lead\n"
        "targets: [smollm2-135m, {name: big, model: org/big}]\n"
    )
    config = EvalConfig.load(["--config", str(file), "--rate", "0.1"])
    assert [(one.name, one.kind) for one in config.candidates] == [
        ("sentence", "config"),
        ("whole", "config"),
        ("peer", "peer"),
        ("lead", "config"),
    ]
    assert config.candidates[3].config().method == "lead"
    assert [target.name for target in config.targets] == ["smollm2-135m", "big"]
    assert (config.sizes, config.limit) == ((0.1,), 7)


def test_a_preset_gives_what_is_not_given() -> None:
    config = EvalConfig.load([*LEAST, "--preset", "gsm8k-1shot", "--target", "smollm2-135m", "--max-tokens", "9"])
    assert (config.sizes, config.ask, config.max_tokens) == ((446.0,), ("generate",), 9)


def test_paths_in_a_file_are_told_in_plain_words_and_one_set_need_be_no_list() -> None:
    with pytest.raises(ConfigError, match=r"^peer_path = \['a'\]: must be the path of one file or directory$"):
        EvalConfig(data="a=b.jsonl", output="/out", rate=0.5, peer_path=["a"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--rate", "0"], r"rate\.0 = '0': must be above 0"),
        (["--rate", "half"], r"rate"),
        (["--tokens", "1"], r"tokens\.0 = '1': must be at least 2"),
        (["--data", "rows.jsonl"], r"write NAME=FILE, not 'rows.jsonl'"),
        (["--candidate", "lead", "--candidate", "lead"], r"two candidates are called 'lead'"),
        (["--match-peer"], r"match_peer needs exactly one peer"),
        (["--ask", "nll"], r"nobody is asked"),
        (["--colour", "red"], r"--colour"),
        (["--preset", "none"], r"preset = 'none'"),
        (["--output", "http://x/y"], r"http://"),
        (["--device", "cuda:1"], r"a worker sees none but its own GPU"),
        (["--device", "gpu"], r"must be 'auto', 'cpu', or a GPU"),
        (["--device", "cpu", "--gpus-per-worker", "1"], r"nothing would use them"),
        (["--gpus-per-worker", "2"], r"a worker computes on one GPU"),
        (["--target", "t: model=m device=cuda:2"], r"target 't': device = 'cuda:2': a worker sees none but its own"),
        (["--target", "t: model=m device=cuda", "--gpus-per-worker", "0"], r"it would have none"),
        (["--batch-tokens", "9"], r"it is chosen for the device; gpu_memory bounds it"),
        (["--config", "/no/such/file.yaml"], r"no/such/file"),
    ],
)
def test_what_is_wrong_is_said_with_its_setting(extra: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvalConfig.load([*LEAST, *extra])


def test_nobody_to_compare_is_told_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="candidates"):
        EvalConfig(data="a=b.jsonl", output="/out", candidates=[])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"missing setting: data, output"):
        EvalConfig.load([])


def test_help_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        EvalConfig.load(["--help-all"])
    shown = capsys.readouterr().out
    singular = {"candidates": "candidate", "targets": "target"}
    flags = [f"--{singular.get(name, name).replace('_', '-')}" for name in EvalConfig.model_fields]
    assert [flag for flag in flags if flag not in shown] == []


def test_storage_options_are_never_repeated(tmp_path: Path) -> None:
    (tmp_path / "eval.yaml").write_text("storage_options: my-secret-key\n")
    with pytest.raises(ConfigError) as caught:
        EvalConfig.load([*LEAST, "--config", str(tmp_path / "eval.yaml")])
    assert "storage_options must be a JSON object" in str(caught.value)
    assert "my-secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("candidates", "target", "gpus"),
    [(["lead"], "gpt: url=http://x/v1 model=m", (0, 0)), (["selective"], "m: model=x", (1, 1))],
)
def test_a_gpu_is_reserved_only_for_what_computes_here(
    candidates: list[str], target: str, gpus: tuple[int, int]
) -> None:
    config = EvalConfig(data={"a": "x"}, output="memory://o", candidates=candidates, targets=[target])
    found = [ResourceRequest.of(config, 9, needs_in(config, wave)) for wave in waves(config, {"a": 10})]
    assert tuple(wish.shape(gpus=4, cpus=8).gpus for wish in found) == gpus
