"""Credentials: what may be written is scheme, host and path; whatever else is planted anywhere is found nowhere."""

from __future__ import annotations

import html
import json
import logging
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.errors import AbortRun
from cluster.report import telemetry as logs
from cluster.run.pool import reachable
from cluster.storage.credentials import public_address, redact, require_no_credentials
from jobs.compress import main
from lingua.errors import ConfigError
from lingua.explain import public, public_url
from tests.cluster import drive_job

SECRET = "hunter2-TOKEN"
TOKENS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=20).map("Tk{}".format)
FORMS = (
    "https://{}@host/path/x.jsonl",
    "https://user:{}@host/path/x.jsonl",
    "https://user:a/{}@host/path/x.jsonl",
    "https://host/x.jsonl?sig={}",
    "https://host/x.jsonl?{}",
    "https://host/a b?sig={}",
    "https://host/x.jsonl#{}",
    "http://host:80/?a=b&token={}",
    "s3://{}@bucket/x.jsonl",
    "s3://key:{}@bucket/x.jsonl",
    "s3://bucket/x.jsonl?X-Amz-Signature={}",
    "gs://bucket/x.jsonl?x={}",
    "abfs://container@account.dfs.core.windows.net/x.jsonl?sv=1&sig={}",
    "ftp://user:{}@host/x.jsonl",
    "sftp://user:{}@host/x.jsonl",
    "ray://user:{}@host:10001/?x={}",
)


@given(st.sampled_from(FORMS), TOKENS)
def test_of_a_url_scheme_host_and_path_may_be_shown(form: str, token: str) -> None:
    url = form.replace("{}", token)
    assert token not in public_url(url)
    assert public_url(url).startswith(url.partition("://")[0] + "://")
    with pytest.raises(ConfigError) as refused:
        require_no_credentials("input", url)
    assert token not in str(refused.value)


@given(st.sampled_from([form for form in FORMS if " " not in form]), TOKENS)
def test_a_url_within_a_message_is_cut_too(form: str, token: str) -> None:
    said = public(f"cannot read '{form.replace('{}', token)}' and {form.replace('{}', token)}: no")
    assert token not in said
    assert said.startswith("cannot read '")
    assert said.endswith(": no") or "#" in form or "?" in form


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/year=2024/part?.parquet",
        "s3://bucket/a#b.jsonl",
        "s3://bucket/mail@host/x.jsonl",
        "abfs://container@account.dfs.core.windows.net/x.jsonl",
        "https://host:8080/path/mail@host.jsonl",
        "http://[::1]:8080/x",
        "file:///data/a?b=c#d@e.jsonl",
        "data/a?b=c.jsonl",
        "dataset:owner/name:train",
        "memory://x/y",
    ],
)
def test_names_are_not_taken_for_credentials(url: str) -> None:
    assert public_url(url) == url
    require_no_credentials("input", url)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("user:pw@host:6379", "host:6379"),
        ("ray://user:p/w@host:10001/?token=x", "ray://host:10001"),
        ("ray://host:10001#x", "ray://host:10001"),
        ("auto", "auto"),
    ],
)
def test_an_address_keeps_no_password(address: str, shown: str) -> None:
    assert public_address(address) == shown


def test_nobody_answers_at_an_address_with_a_password() -> None:
    with pytest.raises(AbortRun) as refused, reachable(f"user:{SECRET}@127.0.0.1:1"):
        pass
    assert SECRET not in str(refused.value)
    assert "127.0.0.1:1" in str(refused.value)


def test_values_of_storage_options_are_struck_out_as_they_are_and_quoted() -> None:
    options = {"s3": {"secret": "a/b+c d", "client_kwargs": {"token": "xyz1"}}}
    assert redact("a/b+c d, a%2Fb%2Bc%20d, a/b%2Bc%20d, a%2Fb%2Bc+d, xyz1", options) == "***, ***, ***, ***, ***"


@pytest.mark.parametrize(
    "said",
    ["{}", "at {}:", "{}s", "key={},", '{{"pin": {}}}', "{!r}"],
)
def test_numbers_among_storage_options_are_struck_out(said: str) -> None:
    options = {"ftp": {"pin": 48151623, "share": 0.62342, "anon": True, "retries": 3, "wide": [9007199254740993]}}
    for number in (48151623, 0.62342, 9007199254740993):
        text = redact(f"True, 3 of 1481516230 and {said.format(number)}", options)
        assert text == f"True, 3 of 1481516230 and {said.replace('{!r}', '{}').format('***')}"


@example('000"')
@given(st.text(min_size=4, max_size=12).filter(lambda text: "://" not in text))
def test_values_are_struck_out_however_a_message_spells_them(value: str) -> None:
    said = [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(json.dumps(value)[1:-1]),
        repr(value),
        repr(value.encode(errors="replace")),
        html.escape(value),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
    ]
    for one in said:
        assert redact(f"<{one}>", {"a": [value]}).strip("<>'\"b") == "***"


def test_a_key_of_many_lines_is_struck_out_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----\n"
    assert redact("near MIIEvQIBADANBg and kqhkiG9w0BAQ", {"private_key": key}) == "near *** and ***"


MISTYPED = ("https:/u:SECRET@host/x", "https:///u:SECRET@host/x", "https:u:SECRET@host/x", "S3:/SECRET@bucket/x")


@pytest.mark.parametrize("url", [*MISTYPED, "http:/host/x?token=SECRET", "sftp:/u:a/SECRET@host/x"])
def test_a_mistyped_url_keeps_its_credentials_off_the_terminal(
    folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("input", "output", "model", "reuse", "target-tokenizer", "focus-model"):
        assert main([*command(folder), f"--{name}", url.replace("SECRET", SECRET)], drive_job.paced) == 2
        captured = capsys.readouterr()
        assert SECRET not in captured.out + captured.err
    assert SECRET not in public(f"cannot read /here/{url.replace('SECRET', SECRET)}: no such file")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "name", ["/data/a:/mail@host/x", "s3:/bucket/x", "https: no answer from a@b", "gs:// ?", "C:/a@b"]
)
def test_what_is_no_mistyped_url_is_shown(name: str) -> None:
    assert public(name) == name


YAML = (
    "storage_options: {key: SECRET",
    "storage_options: 'SECRET",
    "storage_options: key: SECRET",
    "storage_options: *SECRET",
    "storage_options: !SECRET x",
    "storage_options: {key: &SECRET x, other: *SECRET1}",
    "storage_options:\n  key: SECRET\n bad: SECRET\n",
    "storage_options:\n\tkey: SECRET\n",
    "storage_options: [SECRET]",
    "storage_options: SECRET",
    "storage_options: {key: SECRET, key: SECRET}",
    'storage_options: "SECRET\\q"',
    "input: https://SECRET@host/x",
    "output: s3://SECRET@host/x",
    "https://SECRET@host/x: 1",
    "model: https://SECRET@host/x",
    "target_tokenizer: https://u:SECRET@host/x",
    "focus_model: https://u:SECRET@host/x",
    "reuse: https://host/x?SECRET",
    "device: https://host/x?SECRET",
    "preset: https://SECRET@host/x",
    "rate: https://SECRET@host/x",
    "json_rules: https://SECRET@host/x",
)
FLAGS = (
    ("--storage-options", "SECRET"),
    ("--storage-options", '{"key": "SECRET"'),
    ("--storage-options", '["SECRET"]'),
    ("--storage-options", "{key:", "SECRET}"),
    ("--input", "https://host/x?a=SECRET"),
    ("--output", "https://host/x?a=SECRET"),
    ("--reuse", "https://host/x?a=SECRET"),
    ("--model", "https://host/x?a=SECRET"),
    ("--target-tokenizer", "https://host/x?a=SECRET"),
    ("--rate", "https://host/x?a=SECRET"),
    ("--unknown=SECRET",),
    ("--log-format", "https://SECRET@host"),
    ("https://SECRET@host",),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "in.jsonl").write_text('{"text": "a few words"}\n')
    return tmp_path


def command(folder: Path) -> list[str]:
    named = {"input": "in.jsonl", "output": "out", "model": "model"}
    return [part for name, file in named.items() for part in (f"--{name}", str(folder / file))]


@pytest.mark.parametrize("content", YAML)
def test_a_wrong_file_is_told_by_line_and_column_without_what_stands_there(
    folder: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.yaml").write_text(content.replace("SECRET", SECRET))
    needed = [] if content.startswith(("input", "output", "model")) else command(folder)
    assert main([*needed, "--config", str(folder / "job.yaml")], drive_job.paced) == 2
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    assert "SECRET" not in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("flags", FLAGS)
def test_a_wrong_flag_does_not_repeat_a_credential(
    folder: Path, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag.replace("SECRET", SECRET) for flag in flags]
    assert main([*command(folder), *given], drive_job.paced) == 2
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["STORAGE_OPTIONS", "INPUT", "ADRESS", "MODEL", "RATE", "JSON_RULES"])
def test_a_variable_is_never_repeated(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"LINGUA_{name}", f"ftp://u:{SECRET}@host/x?a={SECRET}")
    pairs = zip(command(folder)[::2], command(folder)[1::2], strict=True)
    own = [part for flag, value in pairs if flag != f"--{name.lower()}" for part in (flag, value)]
    assert main(own, drive_job.paced) == 2
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


def test_a_run_with_credentials_everywhere_leaves_none_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cluster.run.pool", ModuleType("cluster.run.pool"))  # until the end
    drive_job.leave_ray_out()
    caplog.set_level(0)
    monkeypatch.setenv("LINGUA_STORAGE_OPTIONS", json.dumps({"s3": {"secret": SECRET}}))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("RAY_ADDRESS", f"ray://u:{SECRET}@host:1/?x={SECRET}")
    flags = ["--log-format", "json"]
    assert main([*command(folder), *flags, "--dry-run"], drive_job.paced) == 0
    assert main([*command(folder), *flags], drive_job.paced) == 0
    assert main([*command(folder), *flags, "--rate", "0.3"], drive_job.paced) == 1
    said = capfd.readouterr()
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert {"_plan.json", "_stats.json", "_report.html"} <= {path.name for path in files}
    assert SECRET not in said.out + said.err + caplog.text
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in files)


def test_a_log_line_holds_no_more_of_a_url_than_may_be_shown() -> None:
    for style in ("text", "json"):
        stream = StringIO()
        undo = logs.set_up_logs(style, stream)  # type: ignore[arg-type]
        logs.event("not reused", reason=f"cannot read https://u:{SECRET}@host/x?y={SECRET}", level=logging.WARNING)
        undo()
        assert SECRET not in stream.getvalue()
        assert "https://host/x" in stream.getvalue()
