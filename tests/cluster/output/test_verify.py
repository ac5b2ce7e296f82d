"""The audit finds every planted fault, and finds none where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.input.schema import infer_schema
from cluster.output.ledger import Ledger
from cluster.output.records import Blob, Statistics
from cluster.output.summary import BINS, ShardSummary
from cluster.output.verify import Audit, verify
from jobs.report import main as report
from jobs.verify import main
from tests.cluster.forgery import reforge, replanned, rewritten
from tests.cluster.jobs_for_tests import job, run, write_lines
from tests.fakes import REJECT

ROWS = [{"id": n, "text": REJECT if n % 17 == 5 else f"row {n} has a few words"} for n in range(120)]


@pytest.fixture(params=["parquet", "jsonl"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished output of several parts, some rows rejected."""
    write_lines(tmp_path / "rows.jsonl", ROWS)
    run(job(tmp_path / "rows.jsonl", tmp_path / "out", shard_size=2048, output_format=request.param))
    return tmp_path / "out"


def parts(output: Path) -> list[Path]:
    found = sorted(output.glob("part-*"))
    assert len(found) > 2
    return found


def test_a_whole_output_has_no_problem(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(output)]) == 0
    seen = f"120 input rows in {len(parts(output))} shards, 7 of them rejected"
    uncounted = "tokens were not counted again: model 'fake' is not on this machine"
    assert capsys.readouterr().out == f"whole: {seen}, each exactly once\n{uncounted}\n"


def missing(output: Path) -> str:
    parts(output)[1].unlink()
    return "missing: the shard is not committed"


def truncated(output: Path) -> str:
    part = parts(output)[0]
    part.write_bytes(part.read_bytes()[:-20])
    return "differs from its commit record"


def truncated_and_forged(output: Path) -> str:
    part = parts(output)[0]
    part.write_bytes(part.read_bytes()[:-20])
    reforge(part)
    return "cannot be read"


def doubled(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [*rows, rows[-1]])
    return "1 rows more than its input has"


def dropped(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: rows[:-1])
    return "is neither in the part nor among the rejects"


def reordered(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [rows[1], rows[0], *rows[2:]])
    return "row 0: its columns differ from the input's"


def other_text(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "text": "else"}, *rows[1:]])
    return "row 0: its columns differ from the input's"


def other_fingerprint(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "fingerprint": "0" * 32}, *rows[1:]])
    return "row 0: its fingerprint is not that of its content"


def other_fidelity(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "fidelity": rows[0]["fidelity"] / 2}, *rows[1:]])
    return "its commit record says fidelity = "


def no_share(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "fidelity": 1.5}, *rows[1:]])
    return "fidelity = 1.5 is no share between 0 and 1"


def other_counts(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "origin_tokens": 9, "rate": 1 / 3}, *rows[1:]])
    return "its commit record says origin_tokens"


def swapped(output: Path) -> str:
    first, second = parts(output)[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return "differs from its commit record"


def swapped_with_records(output: Path) -> str:
    first, second = parts(output)[:2]
    swapped(output)
    reforge(first)
    reforge(second)
    return "its columns differ from the input's"


def stray(output: Path) -> str:
    part = parts(output)[0]
    shutil.copy(part, output / f"part-99999-00000000{part.suffix}")
    return "a part that is not in the plan"


def foreign(output: Path) -> str:
    (output / "more.parquet").write_bytes(b"x")
    return "more.parquet: a file that is not in the plan"


def no_record(output: Path) -> str:
    next(output.glob(f"_records/{parts(output)[0].stem}.*")).unlink()
    return "no commit record has its checksum; start the job again"


def record_of_another_shard(output: Path) -> str:
    first, second = (next(output.glob(f"_records/{part.stem}.*")) for part in parts(output)[:2])
    first.write_bytes(second.read_bytes())
    return "is damaged: it is the record of"


def changed_input(output: Path) -> str:
    write_lines(output.parent / "rows.jsonl", ROWS[:-1])
    return "planned with"


def lost_rejects(output: Path) -> str:
    next(output.glob("_rejects/*")).unlink()
    return "its rejects are missing"


def unplanned_shard(output: Path) -> str:
    replanned(output, lambda content: content["shards"].pop(1))
    return "the one before ends at"


def unplanned_end(output: Path) -> str:
    last = parts(output)[-1]
    replanned(output, lambda content: content["shards"].pop())
    last.unlink()
    return "not to its end"


def nested_part(output: Path) -> str:
    (output / "year=2026").mkdir()
    shutil.copy(parts(output)[0], output / "year=2026")
    return f"year=2026/{parts(output)[0].name}: a part that is not in the plan"


def reject_of_another_file(output: Path) -> str:
    return _reject(output, source="/elsewhere.jsonl") or "is of another file"


def reject_of_another_row(output: Path) -> str:
    return _reject(output, raw='{"text": "never there"}') or "is not of what the input holds there"


def reject_of_wrong_type(output: Path) -> str:
    return _reject(output, row="5") or "cannot be read: not a reject (row:"


def _reject(output: Path, **changed: object) -> str:
    """Change the first reject of the first part that has any, and forge its record."""
    path = min(output.glob("_rejects/*"))
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), **changed}), *rest]) + "\n")
    record = output / "_records" / f"{path.name.removesuffix('l')}"
    content = {**json.loads(record.read_text()), "rejects_sha256": Blob.of(path).sha256}
    record.write_text(json.dumps(content))
    return ""


def invented_text(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "compressed_context": ["invented"]}, *rows[1:]])
    return "is not what is left of it"


def invented_string(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "kept_context": [7]}, *rows[1:]])
    return "kept_context = [7] does not name 1 strings"


def more_than_all(output: Path) -> str:
    rewritten(parts(output)[0], lambda rows: [{**rows[0], "origin_tokens": 1, "rate": 3.0}, *rows[1:]])
    return "is more than origin_tokens = 1"


def other_figures(output: Path) -> str:
    (output / "_stats.json").write_text(json.dumps({"complete": True, "rows": 121}))
    return "_stats.json says rows = 121, the commit records 120"


def figures_of_wrong_type(output: Path) -> str:
    (output / "_stats.json").write_text(json.dumps({"complete": "yes"}))
    return "_stats.json is damaged: not statistics (complete:"


FAULTS = [
    unplanned_shard,
    unplanned_end,
    nested_part,
    reject_of_another_file,
    reject_of_another_row,
    reject_of_wrong_type,
    invented_text,
    invented_string,
    more_than_all,
    other_figures,
    figures_of_wrong_type,
    missing,
    truncated,
    truncated_and_forged,
    doubled,
    dropped,
    reordered,
    other_text,
    other_fingerprint,
    other_fidelity,
    no_share,
    other_counts,
    swapped,
    swapped_with_records,
    stray,
    foreign,
    no_record,
    record_of_another_shard,
    changed_input,
    lost_rejects,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(
    output: Path, fault: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = fault(output)
    assert main([str(output)]) == 1
    assert message in capsys.readouterr().out


def test_nothing_to_audit_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} has no _plan.json; check the path")


def test_damaged_inputs_and_their_rejects_audit_as_whole(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "a b c"}\r\n\n{"text": \xff}\n[]\n{"text": null}\n{"x": NaN}'
    )
    pq.write_table(pa.table({"text": ["a b c", None], "x": [float("nan"), 1.0]}), tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        for form in ("parquet", "jsonl"):
            output = tmp_path / f"out-{name}-{form}"
            run(job(tmp_path / name, output, output_format=form))
            assert verify(str(output)).problems == []


EXACT = ["0.12345678901234567890123", "1e400", "-1e-400", "1e99999999999999999999", "0.100000000000000012", "1" * 5000]


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_numbers_that_float64_does_not_hold_keep_their_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, sampled: bool
) -> None:
    usual = {f"n{at}": 0.5 for at in range(len(EXACT))}
    numbers = ", ".join(f'"n{at}": {number}' for at, number in enumerate(EXACT))
    write_lines(tmp_path / "rows.jsonl", [{"text": "one", **usual, "f": 1.5, "in": {"a": [2.5]}}])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(f'{{"text": "two", {numbers}, "f": -0, "in": {{"a": [0.1, {EXACT[0]}]}}}}\n')
    if not sampled:
        first = lambda rows, always: infer_schema(islice(rows, 1), always)  # noqa: E731
        monkeypatch.setattr("cluster.output.prepare.infer_schema", first)
    run(job(tmp_path / "rows.jsonl", tmp_path / "out", output_format=form))
    assert verify(str(tmp_path / "out")).problems == []
    (part,) = (tmp_path / "out").glob("part-*")
    if form == "jsonl":
        row = part.read_text().splitlines()[1]
        assert row.startswith(f'{{"text": "two", {numbers}, "f": -0.0, "in": {{"a": [0.1, {EXACT[0]}]}}, ')
        return
    columns = pq.read_table(part).to_pylist()[1]
    assert str(columns["f"]) == "-0.0"
    if sampled:
        assert [columns[f"n{at}"] for at in range(len(EXACT))] == EXACT
        assert columns["in"] == {"a": ["0.1", EXACT[0]]}
    else:
        assert columns["unplanned_columns"] == f'{{{numbers}, "in": {{"a": [0.1, {EXACT[0]}]}}}}'


def test_half_of_a_surrogate_pair_in_rejects_is_read_again(tmp_path: Path) -> None:
    rows = [{"text": "a \ud83d b", "i": 1}, {"text": "ok fine here", "i": "\ud83d"}]
    output = tmp_path / "out"
    run(job(write_lines(tmp_path / "rows.jsonl", rows), output, id_column="i"))
    audit = verify(str(output))
    assert (audit.problems, audit.rejected) == ([], 1)


def test_storage_options_come_from_the_environment_unless_the_flag_gives_them(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []

    def noticed(output: str, options: object) -> Audit:
        given.append(options)
        return verify(output)

    monkeypatch.setattr("jobs.verify.verify", noticed)
    monkeypatch.setenv("LINGUA_STORAGE_OPTIONS", '{"key": "from the environment"}')
    assert main([str(output)]) == main([str(output), "--storage-options", '{"key": "from the flag"}']) == 0
    assert given == [{"key": "from the environment"}, {"key": "from the flag"}]
    monkeypatch.setenv("LINGUA_STORAGE_OPTIONS", "key=hunter2")
    assert main([str(output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: LINGUA_STORAGE_OPTIONS must be a JSON object")
    assert "hunter2" not in error


NO_JSON = [b"", b"null", b"[]", b"{}", b"\xff\xfe{", b"[" * 100_000, b'{"a":' * 5000]
NO_VALUES: list[object] = [None, "x", [], {}, -1, 1e308, float("inf"), 10**30, True, [None], {"a": [1]}]


@pytest.mark.parametrize(
    ("form", "kind"),
    [("jsonl", "_records"), *(("parquet", kind) for kind in ("_plan.json", "_records", "_stats.json", "_sketches"))],
)
def test_whatever_stands_in_a_stored_file_ends_in_sentences(
    tmp_path: Path, form: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an output of two small parts: all of it is read again for every change."""
    output = tmp_path / "out"
    run(job(write_lines(tmp_path / "rows.jsonl", ROWS[:40]), output, shard_size=1024, output_format=form))
    assert len([*output.glob("part-*")]) == 2
    (output / "_sketches").mkdir()
    for record in output.glob("_records/*.json"):
        (output / "_sketches" / record.name).write_bytes(ShardSummary((0,) * BINS).to_bytes())
    (output / "_stats.json").write_text(json.dumps(Statistics.over(Ledger(str(output)).records()).as_json()))
    path = output / kind if kind.endswith(".json") else min((output / kind).iterdir())
    before = path.read_bytes()
    content = json.loads(before)
    changed = [{**content, key: value} for key in content for value in NO_VALUES]
    for data in [*NO_JSON, before[: len(before) // 2], *(json.dumps(one).encode() for one in changed)]:
        path.write_bytes(data)
        assert main([str(output)]) in (0, 1, 2)
        assert report([str(output)]) in (0, 2)
        told = capsys.readouterr()
        if "damaged" in told.err:
            assert path.name in told.err
            assert "delete it" in told.err or "another output" in told.err
