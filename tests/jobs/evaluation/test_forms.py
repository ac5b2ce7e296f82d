"""Public forms of the papers' sets, read from real files of them and checked against their unified rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from jobs.evaluation.forms import FORMS, read
from jobs.evaluation.forms.__main__ import main
from jobs.evaluation.rows import EvalRow
from lingua.errors import ConfigError

Rows = dict[str, dict[str, Any]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def unified(path: Path) -> Rows:
    return {row["id"]: row for row in lines(path)}


def write(path: Path, records: Iterable[Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def prompt_of(row: EvalRow) -> tuple[str, tuple[str, ...], str]:
    return row.instruction, row.context, row.question


def prompt_in(row: dict[str, Any]) -> tuple[str, tuple[str, ...], str]:
    return row["instruction"], tuple(row["context"]), row["question"]


def test_gsm8k_gets_the_demonstrations_of_the_chain_of_thought_hub(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "gsm8k"
    known = unified(folder / "unified.jsonl")
    text = next(one["text"] for one in lines(folder / "fewshot_prompts.jsonl") if one["name"] == "prompt_hardest")
    (tmp_path / "prompt_hardest.txt").write_text(text, encoding="utf-8")
    for demonstrations in (folder / "fewshot_prompts.jsonl", tmp_path / "prompt_hardest.txt"):
        rows = list(read(f"{folder}/test_part.jsonl#demonstrations={demonstrations}"))
        assert len(rows) == 660
        compared = [(row, known[f"{row.id}@prompt_hardest"]) for row in rows if f"{row.id}@prompt_hardest" in known]
        assert len(compared) == 250
        assert all(prompt_of(row) == prompt_in(right) for row, right in compared)
        assert all(list(row.answers) == right["answers"] and row.gold == right["gold"] for row, right in compared)


def test_gsm8k_may_show_its_training_rows(shared_data: Path) -> None:
    folder = shared_data / "gsm8k"
    row = next(read(f"{folder}/test_part.jsonl#demonstrations={folder}/train.jsonl&shots=3"))
    assert len(row.context) == 3
    assert all(shown.startswith("Question: ") and "\nThe answer is " in shown for shown in row.context)
    assert "<<" not in "".join(row.context)


def test_bbh_gets_the_demonstrations_of_each_task(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "bbh"
    known, prompts = unified(folder / "unified.jsonl"), lines(folder / "cot_prompts.jsonl")
    for prompt in prompts:
        (tmp_path / f"{prompt['task']}.txt").write_text(f"canary\n-----\n{prompt['text']}\n", encoding="utf-8")
    for demonstrations in (folder / "cot_prompts.jsonl", tmp_path / "*.txt"):
        rows = list(read(f"{folder}/examples.jsonl#demonstrations={demonstrations}"))
        assert len(rows) == 3412
        assert {(row.meta["task"], *prompt_of(row)[:2]) for row in rows} == {
            (row["meta"]["task"], *prompt_in(row)[:2]) for row in known.values()
        }
    around = {(question[:3], question.rpartition("\n")[2]) for question in (row["question"] for row in known.values())}
    assert {(row.question[:3], row.question.rpartition("\n")[2]) for row in rows} == around


def test_bbh_files_name_their_task(shared_data: Path, tmp_path: Path) -> None:
    examples = [{"input": "not ( True ) is", "target": "False"}]
    (tmp_path / "boolean_expressions.json").write_text(json.dumps({"canary": "c", "examples": examples}))
    (tmp_path / "navigate.json").write_text(json.dumps({"canary": "c", "examples": examples}))
    rows = list(read(f"{tmp_path}/*.json#demonstrations={shared_data}/bbh/cot_prompts.jsonl"))
    assert [row.meta["task"] for row in rows] == ["boolean_expressions", "navigate"]
    assert [row.id for row in rows] == ["bbh-boolean_expressions-0", "bbh-navigate-0"]
    assert rows[0].instruction == "Evaluate the result of a random Boolean expression."


def test_nq_of_lost_in_the_middle_knows_its_gold_document(shared_data: Path) -> None:
    rows = list(read(f"{shared_data}/nq_multidoc/nq_oracle_raw.jsonl"))
    known = {row["question"]: row for row in lines(shared_data / "nq_multidoc" / "nq_20docs.jsonl")}
    assert len(rows) == 150
    assert all(row.gold == {"doc_index": 0} and row.set == "nq-1docs" for row in rows)
    shared = [(row, known[row.question]) for row in rows if row.question in known]
    assert len(shared) > 100
    for row, right in shared:
        assert (row.instruction, list(row.answers)) == (right["instruction"], right["answers"])
        gold = right["context"][right["gold"]["doc_index"]]
        assert row.context[0].partition("(Title:")[2].strip() == gold.partition("(Title:")[2].strip()


@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa", "musique"])
def test_multihop_sets_are_their_unified_rows(shared_data: Path, name: str) -> None:
    known = unified(shared_data / "multihop" / "unified.jsonl")
    rows = [(row, known[f"{name}-{row.id}"]) for row in read(f"{shared_data}/multihop/{name}.jsonl")]
    assert len(rows) == {"hotpotqa": 181, "2wikimultihopqa": 106, "musique": 132}[name]
    for row, right in rows:
        assert prompt_of(row) == prompt_in(right)
        assert (row.set, list(row.answers)) == (name, right["answers"])
        assert row.gold["doc_indices"] == right["gold"]["doc_indices"]


def test_hotpotqa_is_read_in_the_hubs_form(shared_data: Path, tmp_path: Path) -> None:
    theirs = lines(shared_data / "multihop" / "hotpotqa.jsonl")[:3]
    hub = [
        {
            **{key: record[key] for key in ("question", "answer", "type", "level")},
            "id": record["_id"],
            "context": {"title": [t for t, _ in record["context"]], "sentences": [s for _, s in record["context"]]},
            "supporting_facts": {
                "title": [t for t, _ in record["supporting_facts"]],
                "sent_id": [place for _, place in record["supporting_facts"]],
            },
        }
        for record in theirs
    ]
    pq.write_table(pa.Table.from_pylist(hub), tmp_path / "hotpot.parquet")
    assert list(read(f"{tmp_path}/hotpot.parquet")) == list(read(write(tmp_path / "authors.jsonl", theirs)))


def test_sharegpt_ends_in_the_last_reply(shared_data: Path) -> None:
    known = unified(shared_data / "sharegpt" / "unified.jsonl")
    rows = list(read(f"{shared_data}/sharegpt/conversations.jsonl"))
    compared = [(row, known[f"sharegpt-{row.id}"]) for row in rows if f"sharegpt-{row.id}" in known]
    assert len(rows) > 470
    assert len(compared) == 150
    assert all(prompt_of(row) == prompt_in(right) for row, right in compared)
    assert all(list(row.answers) == right["answers"] for row, right in compared)


def test_qmsum_gives_a_row_for_each_query(shared_data: Path) -> None:
    known = unified(shared_data / "qmsum" / "unified.jsonl")
    rows = {f"qmsum-{row.id}": row for row in read(f"{shared_data}/qmsum/meetings.jsonl")}
    assert len(rows) > 300
    assert known.keys() <= rows.keys()
    for name, right in known.items():
        assert prompt_of(rows[name]) == prompt_in(right)
        assert rows[name].gold == right["gold"]


def test_longbench_is_parted_where_its_texts_are(shared_data: Path, tmp_path: Path) -> None:
    right = lines(shared_data / "longbench_zh" / "multifieldqa_zh.jsonl")[:5]
    records = [
        {
            "input": row["question"].removeprefix("问题：").removesuffix("\n回答："),
            "context": "\n".join(row["context"]),
            "answers": row["answers"],
            **row["meta"]["original_fields"],
            "all_classes": None,
        }
        for row in right
    ]
    rows = list(read(write(tmp_path / "multifieldqa_zh.jsonl", records)))
    assert [(row.instruction, row.question) for row in rows] == [(row["instruction"], row["question"]) for row in right]
    assert [row.context for row in rows] == [tuple(part.strip() for part in row["context"]) for row in right]
    passages = {
        "input": "q",
        "context": "Passage 1:\nOne\ntext\nPassage 2:\nTwo",
        "answers": ["a"],
        "dataset": "musique_e",
    }
    (row,) = read(write(tmp_path / "musique.jsonl", [passages]))
    assert (row.set, row.context) == ("musique", ("Passage 1:\nOne\ntext", "Passage 2:\nTwo"))


def test_meetingbank_asks_for_a_summary_or_questions(tmp_path: Path) -> None:
    pairs = [{"question": "Who spoke?", "answer": "The mayor"}, {"question": "When?", "answer": "At noon"}]
    record = {
        "idx": 3,
        "prompt": "Speaker 1: Good evening.\n\nSpeaker 2: Aye.",
        "summary": "A vote.",
        "QA_pairs": pairs,
    }
    path = write(tmp_path / "meetings.jsonl", [record])
    first, second = read(path)
    assert (first.set, first.id, first.answers) == ("meetingbank-qa", "3-0", ("The mayor",))
    assert second.question == "Question: When?\nAnswer:"
    assert first.context == ("Speaker 1: Good evening.", "Speaker 2: Aye.")
    (summary,) = read(f"{path}#task=summary")
    assert (summary.set, summary.answers) == ("meetingbank", ("A vote.",))
    original = {"id": 1, "uid": "u", "transcript": "One. Two.", "summary": "Three."}
    (row,) = read(write(tmp_path / "hub.jsonl", [original]))
    assert (row.context, row.answers) == (("One. Two.",), ("Three.",))


def test_arxiv_keeps_the_first_five_sections_cut_as_in_the_paper(tmp_path: Path) -> None:
    text = "title page § INTRODUCTION " + "x" * 20_000 + "".join(f" § S{n} text §.§ SUB more" for n in range(8))
    record = {"entry_id": "http://arxiv.org/abs/2303.1", "title": "T", "text": text, "abstract": "short"}
    path = write(tmp_path / "articles.jsonl", [record])
    (row,) = read(path)
    assert [len(part) for part in row.context[:1]] == [10_000]
    assert row.context[1:] == tuple(f"S{n} text §.§ SUB more" for n in range(4))
    assert row.answers == ()
    (row,) = read(f"{path}#reference=abstract")
    assert row.answers == ("short",)


def test_unified_rows_pass_as_they_are(shared_data: Path) -> None:
    path = shared_data / "squad" / "unified.jsonl"
    rows = list(read(f"{path}#limit=7"))
    right = lines(path)[:7]
    assert [prompt_of(row) for row in rows] == [prompt_in(row) for row in right]
    assert [(row.id, row.set, row.gold) for row in rows] == [(row["id"], row["set"], row["gold"]) for row in right]


HOTPOT = {"question": "q", "answer": "a", "context": [["t", ["s"]]], "supporting_facts": [["t", 0]]}
RECORD = {"_id": "x", "input": "q", "context": "some text", "answers": ["a"], "dataset": "qasper"}


def test_all_kinds_of_files_hold_the_same_rows(tmp_path: Path) -> None:
    line = json.dumps(RECORD).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(line))
    (tmp_path / "a.json").write_text(json.dumps([RECORD]))
    (tmp_path / "b.json").write_text(json.dumps({"data": [RECORD]}))
    (tmp_path / "c.json").write_text(json.dumps({"first": RECORD}))
    pq.write_table(pa.Table.from_pylist([RECORD]), tmp_path / "a.parquet")
    names = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "b.json", "c.json", "a.parquet")
    found = [list(read(str(tmp_path / name))) for name in names]
    assert all(rows == found[0] for rows in found)
    assert len(list(read(f"{tmp_path}/*.json"))) == 3
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"b\.parquet: is no whole Parquet file"):
        list(read(str(tmp_path / "b.parquet")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_data_set_of_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "longbench").mkdir(parents=True)
    write(tmp_path / "someone" / "longbench" / "test.jsonl", [RECORD, {**RECORD, "_id": "y"}])
    assert [row.id for row in read("dataset:someone/longbench:test")] == ["x", "y"]
    with pytest.raises(ConfigError, match=r"dataset:someone/longbench:missing: cannot be read"):
        list(read("dataset:someone/longbench:missing"))


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        ([], "", "holds no rows"),
        ([{"colour": "red"}], "", r"record 1: its fields \(colour\) are those of no known form; name one with #form="),
        ([RECORD], "#form=squat", "there is no form 'squat'; there are unified, hotpotqa"),
        ([RECORD], "#shots=3", "there is no option 'shots' here; there are form, limit"),
        ([RECORD], "#limit=none", "limit = 'none' is no number"),
        ([RECORD], "#limit", "write #name=value, not #limit"),
        (
            [RECORD, {**RECORD, "answers": "x", "context": 7}],
            "",
            r"record 2: field 'context' must be a string, not '7'",
        ),
        (
            [RECORD, {"input": "q", "context": "c"}],
            "",
            r"record 2: field 'answers' is missing; it must be a list of str",
        ),
        ([{"question": "q", "answer": "#### 1"}], "", "needs demonstrations; add #demonstrations=FILE"),
        (
            [{"conversations": [{"from": "cat", "value": "meow"}]}],
            "",
            r"conversations, record 1: field 'from' must be one",
        ),
        ([{**HOTPOT, "context": [["t", "one string"]]}], "", r"record 1: field 'context' must be titles with lists"),
        ([HOTPOT, {**HOTPOT, "context": [["t", [1]]]}], "", r"record 2: is no record of form hotpotqa \('int'"),
        ([[1, 2]], "", r"record 1: must be an object, not '\[1, 2\]'"),
        ([{"prompt": "t", "QA_pairs": []}], "#task=poem", "task = 'poem'; it may be qa or summary"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, records: Any, options: str, said: str) -> None:
    path = write(tmp_path / "rows.jsonl", records)
    with pytest.raises(ConfigError, match=said) as caught:
        list(read(f"{path}{options}"))
    assert str(tmp_path) in str(caught.value)


def test_a_solution_without_a_number_is_refused(shared_data: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [{"question": "q", "answer": "#### 4"}, {"question": "q", "answer": "four"}])
    with pytest.raises(ConfigError, match=r"record 2: field 'answer' must be a solution that ends in '#### number'"):
        list(read(f"{path}#demonstrations={shared_data}/gsm8k/train.jsonl"))


@pytest.mark.parametrize(("name", "content"), [("a.jsonl.gz", b"no gzip"), ("b.jsonl", b'{"a"'), ("c.json", b"[1")])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        list(read(str(tmp_path / name)))


def test_every_form_is_told_apart_by_its_own_fields() -> None:
    groups = [(name, frozenset(group)) for name, form in FORMS.items() for group in form.fields]
    assert len({group for _, group in groups}) == len(groups)


def test_the_converter_writes_the_unified_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl", [RECORD])
    assert main([path]) == 0
    (tmp_path / "unified.jsonl").write_text(capsys.readouterr().out)
    assert list(read(str(tmp_path / "unified.jsonl"))) == list(read(path))
    assert main([str(tmp_path / "missing.jsonl")]) == 2
    assert "missing.jsonl: there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])
