"""The benchmark as a whole, on a tiny model and a stand-in for the peer; and that it needs no Ray."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmark import BenchmarkConfig, main
from jobs.benchmarking.prompts import MixSize
from jobs.benchmarking.rounds import changed_share
from lingua.errors import ConfigError
from lingua.prompt import Prompt
from tests.jobs.peers import stand_in

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on two mixes, with a peer."""
    folder = tmp_path_factory.mktemp("benchmark")
    packages = stand_in(tmp_path_factory.mktemp("packages"))
    flags = ["--model", "shape:tiny", "--mix", "short:60", "--mix", "bank:700", "--rows", "4", "--slow-rows", "2"]
    flags += ["--rounds", "2", "--device", "cpu", "--output", str(folder)]
    assert main([*flags, "--peer-python", sys.executable, "--peer-path", str(packages)]) == 0
    return folder


@pytest.fixture
def report(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "benchmark.json").read_text(encoding="utf-8"))
    return found


def test_report_names_device_model_data_versions_and_command(report: dict[str, Any]) -> None:
    assert report["device"]["type"] == "cpu"
    assert (report["model"]["name"], report["model"]["dtype"]) == ("shape:tiny", "float32")
    assert report["model"]["runs"].startswith("packed; differs from the plain forward by")
    assert {"python", "torch", "transformers"} <= report["versions"].keys()
    assert all(len(mix["digest"]) == 12 for mix in report["mixes"])
    assert "--mix short:60 --mix bank:700" in report["command"]


def test_the_named_command_measures_the_same_again(report: dict[str, Any]) -> None:
    again = BenchmarkConfig.load(report["command"].split()[3:])
    assert (again.rows, again.slow_rows, again.rounds, again.model) == (4, 2, 2, "shape:tiny")


def test_every_contender_is_measured_on_every_mix(report: dict[str, Any]) -> None:
    for mix in report["mixes"]:
        assert not mix["failed"]
        assert list(mix["contenders"])[:2] == ["lingua", "lingua, nothing shared"]
        assert "llmlingua" in mix["contenders"]
        assert mix["contenders"]["lingua"]["prompts"] == 4
        assert mix["contenders"]["llmlingua"]["prompts"] == 2


def test_every_other_way_of_computing_says_what_it_decides_otherwise(report: dict[str, Any]) -> None:
    for mix in report["mixes"]:
        contenders = mix["contenders"]
        assert contenders["lingua, nothing shared"]["changed_decisions"] < 0.01
        assert "changed_decisions" not in contenders["lingua"]


def test_the_share_of_changed_decisions_counts_characters_that_one_keeps_alone() -> None:
    prompts = [Prompt(context=["0123456789"]), Prompt(context=["ab", "cd"])]
    ours = (((0, 5),),), (((0, 2),), ())
    theirs = (((0, 3), (9, 10)),), (((0, 2),), ((0, 1),))
    assert changed_share(prompts, ours, theirs) == (2 + 1 + 1) / 14
    assert changed_share(prompts, ours, ours) == 0
    assert changed_share(prompts, ours, theirs[:1]) == 3 / 10


def test_ratios_are_taken_within_a_round(report: dict[str, Any]) -> None:
    for mix in report["mixes"]:
        for ratio in (mix["times_as_fast"]["llmlingua"], mix["times_as_fast_by_cpu_time"]["llmlingua"]):
            assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]


def test_model_tokens_per_original_token_are_those_of_the_method(report: dict[str, Any]) -> None:
    short = report["mixes"][0]["contenders"]["lingua"]
    assert 1.0 <= short["model_tokens_per_token"] < 1.5 + 0.2  # n(1 + rate) at the most, and a start token a segment
    assert short["kept_share"] <= 0.5


def test_stages_add_up_to_the_whole_time(report: dict[str, Any]) -> None:
    for mix in report["mixes"]:
        for found in mix["contenders"].values():
            assert sum(found["time_share"].values()) == pytest.approx(1)


def test_hardware_is_measured_in_the_same_run(report: dict[str, Any]) -> None:
    for mix in report["mixes"]:
        hardware = mix["hardware"]
        assert hardware["matrix_product_gflops"]["min"] > 0
        assert hardware["copy_gigabytes_per_second"]["min"] > 0
        assert hardware["plain_forward_tokens_per_second"]["min"] > 0
        assert 0 < hardware["of_roofline"]["median"] < 1
        rounding = 1e-9
        assert hardware["of_matrix_product"]["median"] <= hardware["of_roofline"]["median"] * (1 + rounding)


def test_markdown_has_a_table_per_mix_with_a_row_per_contender(written: Path, report: dict[str, Any]) -> None:
    text = (written / "benchmark.md").read_text(encoding="utf-8")
    for mix in report["mixes"]:
        table = text.split(f"## {mix['name']}:")[1].split("\n## ")[0]
        rows = [line for line in table.splitlines() if line.startswith("| ")]
        assert len(rows) == 1 + len(mix["contenders"])
        assert len({row.count("|") for row in rows}) == 1


def test_a_missing_peer_is_not_measured_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "shape:tiny", "--mix", "short:40", "--rows", "1", "--rounds", "1"]
    assert main([*flags, "--peer-python", str(tmp_path / "python")]) == 0
    shown = capsys.readouterr().out
    assert "| llmlingua | not measured |" in shown
    assert "make peer" in shown


def test_a_peer_that_fails_is_reported_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packages").mkdir()
    monkeypatch.setattr("jobs.benchmarking.prompts.document", lambda *_: "Some words, then: please-fail now. " * 5)
    flags = ["--model", "shape:tiny", "--mix", "short", "--rows", "1", "--rounds", "1"]
    packages = stand_in(tmp_path / "packages")
    assert main([*flags, "--peer-python", sys.executable, "--peer-path", str(packages)]) == 0
    shown = capsys.readouterr().out
    assert "failed: PeerPromptError" in shown
    assert "failed on cue" in shown
    assert "| lingua |" in shown


def test_a_model_that_cannot_do_the_method_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "shape:tiny", "--method", "llmlingua2"]) == 2
    assert "needs 'encoder'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--mix", "novel"],
        ["--mix", "short:many"],
        ["--rate", "0"],
        ["--rows", "0"],
        ["--model", "shape:unheard-of"],
        ["--model", "shape:xlm-roberta-large-typo"],
    ],
)
def test_wrong_settings_are_one_line_on_stderr_and_exit_2(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in flags else ["--model", "shape:tiny"]
    assert main([*flags, *model]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_small_is_a_preset_that_flags_override() -> None:
    small, other = (BenchmarkConfig.load(["--small", *flags]) for flags in ([], ["--rows", "7", "--mix", "bank:50"]))
    assert [str(size) for size in small.mixes] == ["short", "fewshot:700"]
    assert (small.rounds, other.rounds, other.rows, other.mixes) == (1, 1, 7, (MixSize("bank", 50),))


def test_rate_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rate = '1\.5': must be at most 1"):
        BenchmarkConfig.load(["--rate", "1.5"])


def test_other_ways_to_compute_stand_beside_with_what_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.benchmarking.contenders.compile_decoder", lambda scorer, model: None)
    flags = ["--model", "shape:tiny", "--mix", "short:60", "--rows", "2", "--rounds", "1", "--device", "cpu"]
    flags += ["--beside", "compile", "--peer-python", str(tmp_path / "none")]
    assert main([*flags, "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    contenders = found["mixes"][0]["contenders"]
    assert contenders["lingua, compile"]["changed_decisions"] == 0
    assert "--beside compile" in found["command"]


def test_other_ways_need_a_causal_model() -> None:
    with pytest.raises(ConfigError, match="--beside compile"):
        BenchmarkConfig.load(["--method", "llmlingua2", "--beside", "compile"])


@pytest.mark.parametrize("mixes", [1, [1], {"short": 1}])
def test_a_mix_that_is_no_text_is_named(mixes: Any) -> None:
    with pytest.raises(ConfigError, match="no such mix; there are short"):
        BenchmarkConfig(mixes=mixes)
