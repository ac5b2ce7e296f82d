"""Lines: which go on in the next one, and which are rows of a table, with its head."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua import CompressedPrompt, Prompt
from lingua.text.lines import layout, plain
from lingua.text.needs import needed_sentences
from lingua.text.sentences import sentence_edges
from lingua.text.words import slices
from tests.lingua.budget.test_pieces import compressed
from tests.lingua.echo import compress
from tests.texts import NASTY

ROWS = ["Ada Lund", "engineer", "Vale"], ["Ruiz Okafor", "baker", "Ord"], ["Ilse Varga", "film director", "Szeged"]
HEAD = ["name", "occupation", "city"]


TABLES = {
    "commas": "\n".join(",".join(row) for row in (HEAD, *ROWS)),
    "tabs": "\n".join("\t".join(row) for row in (HEAD, *ROWS)),
    "semicolons": "\n".join(";".join(row) for row in (HEAD, *ROWS)),
    "markdown": "\n".join([" | ".join(HEAD), "---|:--:|---", *(" | ".join(row) for row in ROWS)]),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_of_any_table_are_sentences_that_need_its_head(table: str) -> None:
    text = f"These people paid for the wheel.\n\n{table}\n\nNobody else did."
    found = [sentence.strip() for sentence in slices(text, sentence_edges(text))]
    assert len(found) == 6
    needs, heads = needed_sentences(text)
    assert needs.tolist() == [0, 1, 1, 1, 1, 5]
    assert heads.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-04 21:13,INFO,started\n2024-03-04 21:14,WARN,slow\n2024-03-04 21:15,INFO,done",
        "1,Ada,Vale\n2,Ruiz,Ord\n3,Ilse,Szeged",
        "add(1,2)\nsub(3,4)\nmul(5,6)",
        "It cost 1,204 euros.\nIt sold 2,309 of them.\nIt lost 9,100 in all.",
        "add(1,2);\nsub(3,4);\nmul(5,6);",
    ],
)
def test_lines_of_figures_are_the_head_of_nothing(text: str) -> None:
    assert not needed_sentences(text)[1].any()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("The mill was built by Ada Lund, who\ncame from Vale, and by her brother. It\nburned.", 1),
        ("Delivery and returns\nDelivered within 2 to 4 working days in Germany. Islands cost more.", 2),
        ("Height: 42 cm\nWeight: 1.3 kg\nCable: 1.8 m", 3),
        ("apples\npears\nplums", 3),
        ("The weir was built by\nAda Lund of Vale in 1899.\nThe mill was sold\nRuiz bought it.", 3),
        ("2024-03-04 21:13:58 gateway.Server - Up\n2024-03-04 21:14:00 gateway.Tls - Failed. Down", 2),
        ("const a = f();\nlet b = {\n  c: 1,\n}", 4),
        ("> We renewed it at 22:40 and all of the\n> payments were delivered.", 1),
        ('Shorten what follows: """\nThe weir burned.\n"""\nWrite one line.', 4),
    ],
)
def test_a_line_ends_where_its_writer_ended_it(text: str, lines: int) -> None:
    assert 1 + len({at for at in layout(text).breaks if at}) == lines


def test_every_break_of_a_line_is_one() -> None:
    text = "Opening hours\r\rThe mill is open.\rThe weir was built in 1899\u2028Ruiz\x0cVale\r\nOrd"
    assert len(plain(text)) == len(text)
    assert sentence_edges(text).tolist() == sentence_edges(plain(text)).tolist()
    assert needed_sentences(text)[1][0]


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_blocks_are_ascending_and_apart(text: str) -> None:
    for shown in (text, f"```\n{text}\n<tr><td>{text}", f"a\tb\n{text}\tc\nd\te"):
        spans = layout(plain(shown)).blocks
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


@given(st.lists(st.sampled_from(["a,b", "c\td", "---", "| e |", "", "> f", "```", "  g: 1", "h:", "}", "i. J"])))
@settings(deadline=None)
def test_what_a_sentence_needs_stands_before_it(lines: list[str]) -> None:
    needs, heads = needed_sentences("\n".join(lines))
    assert all(other <= at for at, other in enumerate(needs.tolist()))
    assert len(needs) == len(heads)


def test_a_row_with_a_broken_cell_is_one_and_stands_under_the_head() -> None:
    text = 'id,said,by\n1,"It burned.\nTwice, even.",Ada\n2,no,Ruiz\n3,"so, so",Ilse'
    assert [one.strip() for one in slices(text, sentence_edges(text))] == [
        "id,said,by",
        '1,"It burned.\nTwice, even.",Ada',
        "2,no,Ruiz",
        '3,"so, so",Ilse',
    ]
    assert needed_sentences(text)[0].tolist() == [0, 0, 0, 0]


QUOTED = """class Wheel:
    \"\"\"
    A wheel of Vale that was
    built of oak.

    It turned for 40 years.
    \"\"\"
    spokes = 12

    def turn(self):
        \"\"\"Turn it once.\"\"\"
        self.turns += 1
        return self.turns"""


@pytest.mark.parametrize("mark", ['"""', "'''"])
@pytest.mark.parametrize(
    "text", [QUOTED, f"Here it is:\n```python\n{QUOTED}\n{'turn()' * 250}\n```", QUOTED.replace("    ", "")]
)
def test_what_three_quotation_marks_hold_stands_between_them(text: str, mark: str) -> None:
    text = text.replace('"""', mark)
    edges = sentence_edges(text)
    sentences, (needs, heads) = [one.strip() for one in slices(text, edges)], needed_sentences(text)
    opened, *held, closed = range(sentences.index(mark), sentences.index(mark, sentences.index(mark) + 1) + 1)
    assert heads[opened]
    assert set(needs[[*held, closed]].tolist()) == {opened}
    assert needs[closed + 1] not in range(opened, closed + 1)


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_quotation_marks_open_and_close_what_is_kept_and_nothing_else(rate: float) -> None:
    text = QUOTED.replace("turned for 40 years", "turned for 40 years for Ada Lund of Ord")
    kept = compressed(text, rate)
    assert kept.count('"""') % 2 == 0
    assert ('"""\n' in kept) == ("of Vale" in kept or "Lund" in kept)


def test_a_fence_is_all_that_a_colon_leads() -> None:
    text = "Use this to send them:\n```\ngsutil cp a b\n```\nPut your own path for a.\nThen wait."
    assert needed_sentences(text)[0].tolist() == [0, 0, 2, 3]


FRAGMENTS = [
    *("a,b,c", '1,"x, y",3', '4,"open', "a\tb\tc", "| a | b |", "|---|---|", "key:", "  k: v", "    - item: x"),
    *(
        "{",
        "}",
        "[",
        "});",
        '"""',
        'x = """a',
        "b'''",
        '"a": {',
        "def f(x):",
        "    return (a,",
        "# Head",
        "```py",
        "```",
        "> q",
        ">> z",
        "<ul>",
    ),
    *(
        "[" + '{"a": "It is, or was.", "b": [1, {}]}, ' * 12 + '{"c": "op\\"en, [',
        '{"a": [' + '"It burned. He left", ' * 30 + "]]}",
    ),
    *("</ul>", "2024-03-04 21:13:58 INFO up. Down", "[10:02] Ada: Yes. No.", "Q: who?", "It burned. He left, and"),
    *("the mill of", "Steps:", "1. one", "", " ", "word " * 30, "漢字。次", "\0", "e\u0301"),
]
BROKEN = st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\n\n"])))


@given(BROKEN, st.sampled_from([0.1, 0.35, 0.6, 0.9]), st.sampled_from(["", "Who left?"]))
@settings(deadline=None)
def test_of_lines_of_any_kinds_a_subsequence_within_the_budget_is_kept(
    lines: list[tuple[str, str]], rate: float, question: str
) -> None:
    text = "".join(line + end for line, end in lines)
    (found,) = compress([Prompt(context=[text], question=question)], method="evidence", rate=rate)
    assert isinstance(found, CompressedPrompt)
    assert all(0 <= start < end <= len(text) for start, end in found.kept_spans[0])
    assert all(end <= begin for (_, end), (begin, _) in pairwise(found.kept_spans[0]))
    assert found.status == "over_budget" or found.compressed_tokens <= found.target_tokens


def test_quotation_marks_that_close_nothing_of_what_is_open_are_no_error() -> None:
    text = "1. one \"\"\"\n    - x. He, and\nif it is open, he\n\n});\n\nb'''\n> q {\nof Vale\n\n''' |---|\n\n  k: v\n"
    assert layout(text + '{\n2024-03-04 21:13:58 INFO up\n|---|---|\n\n"a": {\n``` }\n\n</ul>\n```\n').breaks


@pytest.mark.parametrize(
    ("lines", "needs"),
    [
        (
            [
                "2024-03-04 21:13:58 INFO up on 8443",
                "2024-03-04 21:14:07 ERROR no order 88121",
                "java.sql.SQLException: Connection is not available, timed out after 30000ms.",
                "\tat com.vale.Pool.get(Pool.java:197)",
                "Caused by: java.net.SocketTimeoutException: Read timed out",
                "\tat com.vale.Socket.read(Socket.java:288)",
                "2024-03-04 21:15:11 INFO 503 in 12 ms",
                "",
                "Nobody was told of it.",
            ],
            [0, 1, 1, 1, 4, 5],
        ),
        (
            ['Exception in thread "main" ValueError: no port', "    at ord.Main.run(Main.java:12)", "    ... 2 more"],
            [0, 0, 0],
        ),
        (["INFO:ord:up", "ERROR:ord:job 51 failed", "KeyError: 'XK'", "WARNING:ord:40 jobs wait"], [0, 1, 1, 3]),
    ],
)
def test_what_a_log_says_of_an_entry_stands_under_it(lines: list[str], needs: list[int]) -> None:
    assert needed_sentences("\n".join(lines))[0].tolist() == needs
