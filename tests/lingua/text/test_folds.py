"""Folds: how markup in one long line is read as lines that stand under each other."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from lingua import CompressedPrompt, Prompt
from lingua.text.folds import folds
from lingua.text.lines import layout
from lingua.text.needs import needed_sentences
from lingua.text.sentences import sentence_edges
from lingua.text.words import slices
from tests.lingua.echo import compress

PAGE_LINES = [
    *("<html>", "<head>", "<title>The mill of Vale</title>", "</head>", "<body>", '<div class="main">'),
    "<h1>The mill of Vale</h1>",
    "<p>",
    "The mill was built in 1899 by Ada Lund.",
    " It burned in 1931 and was sold to a baker.",
    " Ruiz Okafor bought the <b>weir</b> in 1944.",
    "</p>",
    "<h2>Prices</h2>",
    "<table>",
    "<tr><th>Flour</th><th>Euros</th></tr>",
    "<tr><td>Rye</td><td>2.40</td></tr>",
    "<tr><td>Spelt</td><td>3.10</td></tr>",
    "</table>",
    "<h2>Terms</h2>",
    "<p>Before you buy, note:</p>",
    "<ul>",
    "<li>No returns.</li>",
    "<li>Closed in May.</li>",
    *("</ul>", "</div>", "</body>", "</html>"),
]
NEEDS = [0, 1, 2, 1, 4, 5, 6, 6, 7, 8, 7, 7, 6, 12, 13, 14, 14, 13, 6, 18, 19, 20, 20, 20, 5, 4, 0]
PAGE = "".join(PAGE_LINES)
LEFT, HIDDEN = "\n".join(PAGE_LINES), "<script>\nif (a < 1) f('<div>');\n\ng()</script>\n<!-- <ul> of old -->\n"


def compressed(text: str, rate: float, question: str) -> str:
    (found,) = compress([Prompt(context=[text], question=question)], method="evidence", rate=rate)
    assert isinstance(found, CompressedPrompt)
    return "".join(found.context)


class Tags(HTMLParser):
    """Which tags are open, and which ends end none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.lost = list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:
            self.open.pop()
        else:
            self.lost.append(tag)


def test_elements_stand_in_each_other_and_under_headings_and_heads() -> None:
    assert [one.strip() for one in slices(PAGE, sentence_edges(PAGE))] == [line.strip() for line in PAGE_LINES]
    needs, heads = needed_sentences(PAGE)
    assert needs.tolist() == NEEDS
    assert np.flatnonzero(heads).tolist() == [6, 7, 12, 13, 14, 18, 19, 20]


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.5, 0.65, 0.8])
@pytest.mark.parametrize("question", ["", "What does spelt cost?"])
def test_what_is_kept_of_a_page_is_balanced_and_rows_have_their_head(rate: float, question: str) -> None:
    told = f"I found:\n\n{PAGE}\n\nThat is not true."
    loose, hidden = LEFT.replace("</tr>\n", "</tr>\n\n"), LEFT.replace("<h2>", f"{HIDDEN}<h2>")
    for page in (PAGE, told, LEFT, told.replace(PAGE, LEFT), loose, hidden):
        kept = compressed(page, rate, question)
        assert (Tags(kept).open, Tags(kept).lost) == ([], [])
        assert ("<td>" in kept) <= ("<th>Euros</th>" in kept)
        assert ("<li>" in kept) <= ("note:</p>" in kept)
        assert not re.search(r"</h\d>\s*(?:<h|</div|$)", kept)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("<ul><li>one<li>two<li>three</ul><p>x<p>y", ["<ul>", "<li>", "one", "<li>", "two", "<li>", "three", "</ul>"]),
        ("<dl><dt>A</dt><dd>b</dd><dt>C</dt><dd>d</dd></dl>", ["<dl>", "<dt>A</dt>", "<dd>", "b", "</dd>"]),
        ("<p>one<br>two</p><p>three</p><p>four</p>", ["<p>", "one", "<br>two", "</p>"]),
        ("<a:b><c.d>e</c.d><f/><g>h</g><i-j>k</i-j></a:b>", ["<a:b>", "<c.d>", "e", "</c.d>"]),
    ],
)
def test_markup_is_broken_at_the_tags_of_blocks(text: str, lines: list[str]) -> None:
    cuts = [fold.begin for fold in folds(text)]
    found = [part for part in map(str.strip, slices(text, np.asarray(cuts))) if part]
    assert found[: len(lines)] == lines


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_elements_that_only_wrap_others_cost_nothing(rate: float) -> None:
    page = LEFT.replace("<h1>", '<div class="column-12 of-12 first">\n<h1>').replace("</body>", "</div></body>")
    kept = compressed(page, rate, "")
    assert "<p>" in kept
    assert not re.search("div|body", kept)
    told = "".join(f"<div>Ada left Vale in {year}.</div>" for year in range(1890, 1899))
    assert "</div><div>Ada" in compressed(told, rate, "")


@pytest.mark.parametrize(
    "page",
    [
        "<table>\n<caption>Flour {0}</caption>\n<tr>\n<td>\nRye\n</td>\n<td>{0} euros</td>\n</tr>\n</table>\n",
        "<div>\n  <p>Ada left Vale\n  in 189{0}.</p>\n  <p>\n    She came back in 190{0}.\n  </p>\n</div>\n",
        "<ul><li>Ada left Vale.</li>\n<li>The mill burned:<ol>\n<li>in 189{0},\n<b>twice</b></li></ol></li></ul>\n",
    ],
    ids=["table", "indented", "uneven"],
)
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
def test_breaks_of_lines_within_html_say_nothing(page: str, rate: float) -> None:
    kept = compressed("".join(map(page.format, range(1, 6))), rate, "")
    assert (Tags(kept).open, Tags(kept).lost, bool(kept)) == ([], [], True)
    assert ("<caption>" in kept) == ("<td>" in kept) or "<caption>" not in page


def test_a_fence_with_a_long_line_ends_where_it_ends() -> None:
    fence = "```json\n[" + ", ".join(['{"mill": 1}'] * 40) + "]\n```"
    text = f"See:\n\n{fence}\nAda left. Ben came."
    assert slices(text, sentence_edges(text)) == ["See:", f"\n\n{fence}", "\nAda left.", " Ben came."]


@pytest.mark.parametrize(
    "text",
    [
        "<b>One</b> and <i>two</i> and <b>three</b>, <i>four</i>.",
        "if a < b and c > d: print(a<b>c)",
        "<think>Two mills stand there.</think> The first one is by Lund.",
    ],
)
def test_prose_with_tags_is_no_markup(text: str) -> None:
    assert not folds(text)


@pytest.mark.parametrize(
    "text",
    [
        *("<div>" * 40_000 + "</p>" * 40_000, "<p>" * 80_000, "<div>" + "<script" * 30_000 + ">"),
        *("<div>" + "\n" * 200_000 + "</div>", "<div>" + "<pre>" * 30_000, "<ul>" + "<h2>a</h2>" * 30_000 + "</ul>"),
        *("<p>\n</p>\n\na\n\n" * 20_000, "<p>\n" * 40_000 + "</p>", "</p>\n<!--" * 30_000),
    ],
    ids=["unended", "paragraphs", "scripts", "breaks", "code", "headings", "pages", "lines", "comments"],
)
def test_work_grows_as_markup_does(text: str) -> None:
    started = time.process_time()
    layout(text)
    assert time.process_time() - started < 6
