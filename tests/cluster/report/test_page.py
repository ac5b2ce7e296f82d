"""The report as a reader finds it: its figures, its structure, and nothing of a row that could act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cluster.errors import AbortRun, DamagedFile
from cluster.output.ledger import Ledger
from cluster.output.summary import BINS, Excerpt
from cluster.report.page import duration, gather, render, stretches
from tests.cluster.report.corpus import finished
from tests.fakes import REJECT, SAMPLE

VOID = {"meta", "link", "br", "img", "input", "hr", "rect"}
DOCUMENTS = [f"document {number} says a few words that could be fewer" for number in range(60)]
NASTY = [
    "<script>alert('x')</script> and & some <b>bold</b> words",
    "a quote \" onload=alert(1) and ' another </div></main> one",
    "nul \0 bell \a and delete \x7f in the text",
    "שלום עולם זה טקסט מימין לשמאל",
    "turned \u202e around \u2066 again and again",
    "{{ 7 * 7 }} {% raw %} of templates here",
]


class Reader(HTMLParser):
    """Takes a page apart: elements with their attributes, text by element, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if tag in where]

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for where, text in self.texts if "style" not in where).split())


def page_of(folder: Path, texts: list[str | None], price: tuple[str, ...] = (), **settings: object) -> Reader:
    return Reader(render(gather(finished(folder, texts, **settings), price)))


def test_it_shows_totals_cost_sources_and_rejects(tmp_path: Path) -> None:
    texts: list[str | None] = [*DOCUMENTS, None, f"{REJECT} of this", "short"]
    page = page_of(tmp_path, texts, price=("gpt-4o=4", "<b>mine</b>=1000"))
    assert "Complete: all" in page.text
    for expected in ("Tokens in 601", "Tokens out 301", "Rate (kept share) 0.501", "Rows 63", "Rows rejected 2"):
        assert expected in page.text
    assert "Rows reused 0" in page.text
    assert "gpt-4o 4.00 0.002404 0.001204 0.001200" in page.text
    assert "<b>mine</b> 1,000.00 0.60 0.30 0.30" in page.text
    assert "asked_for 1 1.59%" in page.text
    assert "invalid_json 1 1.59%" in page.text
    assert re.search(r"in\.jsonl \d+ 63 2 601 301 0\.501", page.text)


def test_it_shows_the_fidelity_of_all_rows_and_the_sample(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS, f"{SAMPLE} of four words"])
    assert "Fidelity 0.500" in page.text
    assert "Rows by fidelity. The tallest bar stands for 61 rows." in page.text
    assert "0.50 to 0.55 61" in page.text
    assert "Of 1 sampled row the model was asked" in page.text
    assert re.search(
        r"Sampled rows that predict their original worst .* 60 doc-60 compressed 4 2 0\.500 0\.250", page.text
    )
    assert "fidelity 0.500, compressed." in page.text


def test_amounts_that_stand_side_by_side_have_the_same_decimals(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS], price=("some=400", "less=200"))
    assert "some 400.00 0.24 0.12 0.12" in page.text
    assert "less 200.00 0.120000 0.060000 0.060000" in page.text


def test_it_names_the_method_and_what_it_asks(tmp_path: Path) -> None:
    for method, words in [
        ("llmlingua", "Method llmlingua , model smollm2-135m , asked rate 0.5."),
        ("evidence", "Method evidence , no language model, tokenizer of smollm2-135m , asked rate 0.5."),
    ]:
        (tmp_path / method).mkdir()
        assert words in page_of(tmp_path / method, [*DOCUMENTS], method=method, rate=0.5).text


def test_it_says_why_no_row_was_sampled(tmp_path: Path) -> None:
    for number, (settings, why) in enumerate(
        [({"method": "rarity"}, "method rarity has no causal model to ask"), ({"fidelity_sample": 0}, "is 0")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert f"No row was sampled: {why}" in page_of(folder, [*DOCUMENTS], **settings).text.replace(
            "fidelity_sample ", ""
        )


def test_an_unfinished_run_says_so_and_shows_what_there_is(tmp_path: Path) -> None:
    page = Reader(render(gather(finished(tmp_path, [*DOCUMENTS], only=2))))
    assert re.search(r"Not complete: 2 of \d+ shards are committed\.", page.text)


def test_one_shard_is_not_all_shards(tmp_path: Path) -> None:
    page = page_of(tmp_path, ["one document of six words"])
    assert "Complete: the only shard is committed." in page.text
    assert "The last run committed 1 shard with 1 row in" in page.text


def test_an_output_without_any_commit_is_a_page_too(tmp_path: Path) -> None:
    page = Reader(render(gather(finished(tmp_path, [*DOCUMENTS], only=0))))
    assert "Nothing is committed yet." in page.text
    assert "No samples were gathered." in page.text


def test_samples_stand_side_by_side_with_the_kept_words_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path, ["alpha beta gamma delta epsilon"])
    assert page.within("mark")[1:] == ["alpha", "gamma", "epsilon"]
    assert "alpha gamma epsilon" in page.within("div")
    assert "Row 0 of" in page.text


def test_the_rows_of_lowest_fidelity_are_shown_with_their_text(tmp_path: Path) -> None:
    poorest = "Only 1815 and 1848 and 1871 and Vienna"
    for size in range(30, 40):  # the one sample that is drawn can be the poorest row, which is then shown once
        (place := tmp_path / str(size)).mkdir()
        texts = [f"word{n} " * 12 for n in range(size)]
        ledger = finished(place, [*texts, poorest], report_samples=1, shard_size=1 << 20)
        if (merged := gather(ledger).merged).unseen:
            break
    assert [sample.note.fidelity for _, sample in merged.poorest] == [
        min(note.fidelity for _, note in merged.rows["lost"])
    ]
    page = Reader(render(gather(ledger)))
    sections = [section["id"] for section in page.all("section")]
    assert sections.index("samples") == sections.index("totals") + 1
    assert {article["aria-labelledby"] for article in page.all("article")} == {"sample-1", "poorest-1"}
    assert "those to read first" in page.text


def test_the_page_tells_which_share_of_the_numbers_is_left(tmp_path: Path) -> None:
    ledger = finished(tmp_path, ["1815 peace 1848 war 1871 1914 1918"])
    total = gather(ledger).total
    assert (total.numbers, total.numbers_kept, total.names) == (5, 4, 0)
    page = Reader(render(gather(ledger)))
    assert page.within("dd")[page.within("dt").index("Numbers kept")] == "0.800"
    assert "Names kept" not in page.within("dt")


def test_nothing_of_a_row_becomes_part_of_the_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*NASTY], report_samples=20, shard_size=1 << 20)
    assert page.all("script") == page.all("b") == page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "<script>alert('x')</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "49" not in page.within("article")
    whole = "".join(text for _, text in page.texts)
    assert not set(whole) & {"\0", "\a", "\x7f", "\u202e", "\u2066"}
    assert "␀" in whole
    assert "⟨U+202E⟩" in whole


def test_text_from_right_to_left_keeps_its_direction_to_itself(tmp_path: Path) -> None:
    page = page_of(tmp_path, ["שלום עולם זה טקסט מימין לשמאל"])
    words = [attributes for attributes in page.all("div") if attributes.get("class") == "words"]
    assert len(words) == 2
    assert all(attributes["dir"] == "auto" for attributes in words)


def test_the_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS])
    assert page.all("link") == page.all("script") == page.all("img") == []
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert not re.search(r"url\(|@import", "".join(page.within("style")))


def test_keyboard_and_screen_reader_find_their_way(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS, None], price=("m=1",))
    names = [name for name, _ in page.elements]
    assert [names.count(landmark) for landmark in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= anchors
    assert {section["aria-labelledby"] for section in page.all("section")} <= anchors
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in page.all("svg"))
    assert page.all("html")[0]["lang"] == "en"
    regions = [attributes for _, attributes in page.elements if attributes.get("role") == "region"]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_names_from_outside_may_break_anywhere(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS], ids=["x" * 300])
    assert "bdi { overflow-wrap: anywhere; }" in "".join(page.within("style"))
    assert f"{'x' * 79}…" in page.within("bdi")
    assert str(tmp_path / "in.jsonl") in page.within("bdi")


def test_credentials_are_not_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, [*DOCUMENTS], storage_options={"key": "k-123456"})
    assert "k-123456" not in page.text


def test_a_damaged_sketch_is_named_and_the_report_can_do_without(tmp_path: Path) -> None:
    ledger = finished(tmp_path, [*DOCUMENTS])
    files = sorted((tmp_path / "out" / "_sketches").iterdir())
    files[0].write_text("{")
    with pytest.raises(DamagedFile, match=f"{files[0].name} is damaged.*delete it"):
        gather(ledger)
    files[0].unlink()
    assert gather(ledger).merged.shards == len(files) - 1


def test_sketches_of_beaten_attempts_are_cleaned_and_never_counted(tmp_path: Path) -> None:
    ledger = finished(tmp_path, [*DOCUMENTS])
    folder = tmp_path / "out" / "_sketches"
    first = min(folder.iterdir())
    stray = folder / first.name.replace(first.name.split(".")[1], "0" * 12)
    stray.write_bytes(first.read_bytes())
    assert sum(gather(ledger).merged.rates) == 60
    ledger.clean()
    assert not stray.exists()
    assert first.exists()


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AbortRun, match=r"has no _plan\.json"):
        gather(Ledger(str(tmp_path)))


def test_bars_are_in_percent_of_the_tallest_and_never_vanish(tmp_path: Path) -> None:
    page = gather(finished(tmp_path, [*DOCUMENTS]))
    page.merged.rates = [0, 1, 50, 1000, *[0] * (BINS - 4)]
    heights = re.findall(r'<rect .* height="(.*)"/>', render(page))
    assert list(map(float, heights[:4])) == [0, 0.8, 5.0, 100.0]


def test_durations_fit_their_size() -> None:
    assert [duration(seconds) for seconds in (4.25, 99, 750, 3 * 3600 + 300)] == [
        "4.2 s",
        "99.0 s",
        "12 min",
        "3 h 05 min",
    ]


def test_stretches_hold_the_whole_text_and_mark_no_leading_space() -> None:
    piece = Excerpt("document", "The budget of  40 million", ((3, 10), (13, 17)))
    assert list(stretches(piece)) == [
        ("The", False),
        (" ", False),
        ("budget", True),
        (" of", False),
        ("  ", False),
        ("40", True),
        (" million", False),
    ]
    assert list(stretches(Excerpt("instruction", "not known", None))) == [("not known", False)]
