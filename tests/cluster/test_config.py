"""Settings: where they come from, which ones win, and what is said of wrong ones."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import JobConfig
from lingua.config import CompressionConfig
from lingua.config import fields as compression_fields
from lingua.errors import ConfigError

NEEDED = ["--input", "in.jsonl", "--output", "/out"]


def load(*flags: str, **environment: str) -> JobConfig:
    return JobConfig.load([*NEEDED, *flags], environment)


def test_defaults_need_only_input_and_output() -> None:
    config = load()
    assert (config.inputs, config.output, config.model) == (("in.jsonl",), "/out", "smollm2-135m")
    assert config.compression == CompressionConfig()


def test_flags_count_over_the_file_and_the_file_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("rate: 0.4\nworkers: 4\nforce_tokens: ['!', '?']\n")
    config = load(
        "--config", str(file), "--workers", "5", LINGUA_RATE="0.3", LINGUA_WORKERS="3", LINGUA_DTYPE="float32"
    )
    assert (config.compression.rate, config.workers, config.dtype) == (0.4, 5, "float32")
    assert config.compression.force_tokens == ("!", "?")


def test_a_target_of_one_layer_replaces_the_rate_of_a_lower_one(tmp_path: Path) -> None:
    config = load("--target-token", "100", LINGUA_RATE="0.3")
    assert (config.compression.rate, config.compression.target_token) == (None, 100)
    with pytest.raises(ConfigError, match="exclude each other"):
        load("--target-token", "100", "--rate", "0.5")


def test_every_setting_is_a_flag_a_key_and_a_variable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load("--help-all")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert [key for key in JobConfig.settings() if not re.search(rf"--{key.replace('_', '-')}[ ,\n]", text)] == []
    assert "examples:" in text
    assert {"input", "output", *compression_fields()} <= JobConfig.settings().keys()
    assert all(field.description for field in JobConfig.settings().values())


def test_lists_repeat_booleans_negate_and_sizes_have_units() -> None:
    config = load(
        "--input", "b", "--protect", r"\d+", "--protect", "x", "--no-force-reserve-digit", "--shard-size", "1.5MiB"
    )
    assert config.inputs == ("in.jsonl", "b")
    assert config.compression.protect == (r"\d+", "x")
    assert config.compression.force_reserve_digit is False
    assert config.shard_size == 3 << 19


def test_the_environment_takes_lists_as_json_and_a_string_as_one() -> None:
    assert load(LINGUA_FORCE_TOKENS='["a", "b"]').compression.force_tokens == ("a", "b")
    assert load(LINGUA_PROTECT="[A-Z]+").compression.protect == ("[A-Z]+",)
    assert load(LINGUA_STORAGE_OPTIONS='{"key": "k"}').storage_options == {"key": "k"}


def test_a_sentence_filter_is_an_object_of_json_wherever_text_gives_it() -> None:
    method, text = ("--method", "llmlingua"), '{"budget": "*2", "last": 1}'
    given = load(*method, "--sentence-filter", text).compression
    assert given == load(*method, LINGUA_SENTENCE_FILTER=text).compression
    assert given.flat()["sentence_filter"] == {"budget": "*2", "first": 0, "last": 1, "best": 0}
    with pytest.raises(ConfigError, match="--sentence-filter must be a JSON object"):
        load(*method, "--sentence-filter", "*2")


@pytest.mark.parametrize(("text", "value"), [("100", 100), ("1%", 0.01), ("12.5 %", 0.125), ("0", 0)])
def test_the_ceiling_of_rejects_is_a_number_or_a_share(text: str, value: float) -> None:
    assert load("--max-rejected", text).max_rejected == value


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rat", "0.5"], "unknown flag --rat; did you mean --rate"),
        (["--rate", "2"], "rate = '2'"),
        (["--rate", "half"], "rate = 'half'"),
        (["--unit", "letter"], "unit = 'letter': must be token, word, phrase or sentence"),
        (["--unit", "words"], "did you mean word?"),
        (["--preset", "papr"], "must be paper or security; did you mean paper?"),
        (["--dtype", "fp16"], "must be auto, float32, bfloat16 or float16"),
        (["--device", "gpu"], "device = 'gpu': must be 'auto', 'cpu', or a GPU: 'cuda'"),
        (["--workers", "0"], "workers = '0': must be at least 1"),
        (["--shard-size", "lots"], "shard_size = 'lots': write bytes"),
        (["--shard-size", "12"], "shard_size = '12': counts bytes and no rows; write at least 1KiB"),
        (["--max-rejected", "many"], "max_rejected = 'many'"),
        (["--max-rejected", "120%"], "max_rejected"),
        (["--text-column", "a", "--question-column", "b"], "text_column excludes"),
        (["--output", "https://host/x"], "cannot create a file only if it is absent"),
        (["--output", "s3://key:secret@bucket/x"], "credentials"),
        (["--output-prefix", "../x"], "output_prefix"),
        (["--config", "/nowhere.yaml"], r"--config /nowhere\.yaml"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(*flags)


def test_an_unknown_name_is_met_with_the_one_that_was_meant_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("rat: 0.5")
    with pytest.raises(ConfigError, match=r"job\.yaml: unknown setting 'rat'; did you mean rate"):
        load("--config", str(file))
    with pytest.raises(ConfigError, match="unknown setting LINGUA_RAET; did you mean LINGUA_RATE"):
        load(LINGUA_RAET="0.5")


def test_a_setting_of_an_earlier_version_is_met_with_what_to_do_instead(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("keep_code_blocks: true")
    with pytest.raises(
        ConfigError, match=r"job\.yaml: keep_code_blocks is no setting any more: give keep_markdown: code"
    ):
        load("--config", str(tmp_path / "job.yaml"))
    with pytest.raises(ConfigError, match=r"--no-report is no setting any more: .*report_samples"):
        load("--no-report")
    with pytest.raises(ConfigError, match=r"LINGUA_LEASE_WAIT is no setting any more: .*lease_seconds"):
        load(LINGUA_LEASE_WAIT="3")


@pytest.mark.parametrize("content", ["unknown: 1", "- rate", "rate: [", "compression: {rate: 0.5}"])
def test_a_wrong_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"job\.yaml"):
        load("--config", str(file))


def test_yaml_is_never_executed(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"model: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'touched'}]")
    with pytest.raises(ConfigError):
        load("--config", str(file))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target", "5"], "unknown flag --target; did you mean --target-token or --target-tokenizer"),
        (["--iterative-szie", "5"], "unknown flag --iterative-szie; did you mean --iterative-size"),
        (["--qqq"], "unknown flag --qqq; --help-all lists all settings"),
        (["corpus.jsonl"], "'corpus.jsonl' belongs to no flag: write --input PATH --output DIRECTORY"),
    ],
)
def test_what_is_no_flag_is_named_with_what_may_have_been_meant(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(*flags)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": [1]}, "input.0 = 1: must be text"),
        ({"input": []}, "input = []: must hold at least 1"),
        ({"max_rejected": [1]}, "max_rejected = [1]: write a number of rows like 100, or a share of them like '1%'"),
    ],
)
def test_a_list_that_is_wrong_is_told_once_and_in_plain_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        JobConfig(**{"input": "in.jsonl", "output": "/out", **settings})
    assert str(refused.value) == message


def test_a_share_may_be_written_in_percent() -> None:
    assert load("--fidelity-sample", "5%").fidelity_sample == 0.05
    assert load("--fidelity-sample", "0.2").fidelity_sample == 0.2
    with pytest.raises(ConfigError, match="fidelity_sample"):
        load("--fidelity-sample", "120%")


def test_the_gate_decides_what_an_output_holds_and_the_fidelity_sample_does_not() -> None:
    assert load("--min-fidelity", "0.5").identity_settings() != load().identity_settings()
    assert load("--fidelity-sample", "0.5").identity_settings() == load().identity_settings()


def test_unknown_variables_and_missing_settings_are_errors() -> None:
    with pytest.raises(ConfigError, match="LINGUA_RTAE"):
        load(LINGUA_RTAE="0.5")
    with pytest.raises(ConfigError, match="missing setting: input, output"):
        JobConfig.load([], {})


@pytest.mark.parametrize("flags", [["--storage-options", "very-secret"], ["--storage-options", '["very-secret"]']])
def test_storage_options_are_never_repeated(flags: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(*flags)
    with pytest.raises(ConfigError) as other:
        load(LINGUA_STORAGE_OPTIONS="very-secret")
    assert "very-secret" not in f"{refusal.value} {other.value}"
    config = load("--storage-options", '{"secret": "very-secret"}')
    assert "very-secret" not in f"{config!r} {config.shown_settings()} {config.identity_settings()}"


@given(
    st.lists(
        st.one_of(st.text(max_size=12), st.sampled_from(["--rate", "--input", "--config", "--protect"])), max_size=5
    )
)
def test_any_flags_give_settings_or_a_setting_error(flags: list[str]) -> None:
    with suppress(ConfigError, SystemExit):
        assert JobConfig.load([*NEEDED, *flags], {}).output
