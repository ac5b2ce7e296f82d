"""What sentences need to be understood: who says them, what they are listed under, what they answer."""

from __future__ import annotations

import json

import pytest

from lingua.text.lines import layout
from lingua.text.needs import needed_sentences
from lingua.text.sentences import sentence_edges
from lingua.text.speakers import speeches
from lingua.text.words import slices


def needs(text: str) -> dict[str, str]:
    """Sentences by their first words, and the one that each needs."""
    names = [" ".join(sentence.split()[:3]) for sentence in slices(text, sentence_edges(text))]
    found, _ = needed_sentences(text)
    return {names[at]: names[other] for at, other in enumerate(found.tolist()) if at != other}


def heads(text: str) -> list[str]:
    sentences = slices(text, sentence_edges(text))
    return [sentence.strip() for sentence, head in zip(sentences, needed_sentences(text)[1], strict=True) if head]


def test_what_is_said_needs_who_says_it() -> None:
    text = "Assistant: Of course. Oak is hard.\n\nIron rusts. It needs paint.\n\nUser: Thanks. Bye."
    assert needs(text) == {
        "Of course.": "Assistant:",
        "Oak is hard.": "Assistant:",
        "Iron rusts.": "Assistant:",
        "It needs paint.": "Iron rusts.",
        "Thanks.": "User:",
        "Bye.": "User:",
    }
    assert heads(text) == ["Assistant:", "User:"]


@pytest.mark.parametrize("label", ["Ruiz", "Grad B", "Abstract", "Ada M. Lund"])
def test_a_name_or_a_kind_of_text_labels_its_paragraph(label: str) -> None:
    text = f"{label}: Oak is hard. Iron rusts.\n\nSteel is dear."
    assert needs(text) == {"Oak is hard.": f"{label}:", "Iron rusts.": f"{label}:"}


@pytest.mark.parametrize(
    "text", ["Ruiz: Oak is hard.", "See this: oak. It is hard.", "At 9:35 it left. Nobody knew.", "x: a. b."]
)
def test_a_label_is_a_sentence_only_if_it_labels_several(text: str) -> None:
    assert not heads(text)


def test_lines_of_a_transcript_are_sentences_with_their_speakers() -> None:
    assert needs("Alice: Hi, how are you today\nBob: Fine. Rome fell.\nAlice: When, would you say") == {
        "Fine.": "Bob:",
        "Rome fell.": "Bob:",
    }


def test_a_chain_of_sentences_is_bounded() -> None:
    text = "Oak is hard. " + " ".join(f"However, it rots in {year} years." for year in range(100))
    found, _ = needed_sentences(text)
    alone = [at for at, other in enumerate(found.tolist()) if at == other]
    assert alone == [0, 20, 40, 60, 80, 100]


def test_an_answer_needs_its_question() -> None:
    text = "Q: How long does oak last?\nA: Forty years.\n\nQ: Who pays?\nA: Nobody. Iron is free."
    assert heads(text) == ["Q: How long does oak last?", "Q: Who pays?", "A:"]
    assert needs(text) == {
        "A: Forty years.": "Q: How long",
        "A:": "Q: Who pays?",
        "Nobody.": "A:",
        "Iron is free.": "A:",
    }


def test_nested_lists_stand_under_their_own_lines() -> None:
    text = "Steps:\n\n1. Oak:\n- saw it.\n- plane it.\n2. Iron:\n- forge it.\n3. Rest.\n\nThen paint all of it."
    assert needs(text) == {
        "1. Oak:": "Steps:",
        "- saw it.": "1. Oak:",
        "- plane it.": "1. Oak:",
        "2. Iron:": "Steps:",
        "- forge it.": "2. Iron:",
        "3. Rest.": "Steps:",
    }


def test_lines_of_a_block_stand_under_the_colon_that_leads_it_and_paragraphs_under_their_heading() -> None:
    text = "Costs\n\nThe parts are these:\nOak, 20 euros.\nIron, 30 euros.\n\nAll of that is dear."
    assert needs(text) == {
        "The parts are": "Costs",
        "Oak, 20 euros.": "The parts are",
        "Iron, 30 euros.": "The parts are",
        "All of that": "Costs",
    }


def test_rows_stand_under_the_head_of_their_table() -> None:
    text = "## Prices\n\n| Kind | Price |\n|---|---:|\n| Oak, old. Dry. | 20 |\n| Iron | 30 |\n\nAll is dear."
    assert needs(text) == {
        "| Kind |": "## Prices",
        "| Oak, old.": "| Kind |",
        "| Iron |": "| Kind |",
        "All is dear.": "## Prices",
    }
    assert heads(text) == ["## Prices", "| Kind | Price |\n|---|---:|"]


@pytest.mark.parametrize("line", ["---", "```sh\nmake\n```", "<b>Oak</b>", "| Oak | 20 |", "* * *"])
def test_rules_code_and_tags_are_no_headings(line: str) -> None:
    assert not heads(f"{line}\n\nIron rusts.\n\nSteel lasts.")


def test_a_block_of_code_stands_under_the_line_that_leads_it() -> None:
    assert needs("Install it:\n\n```sh\nmake it\n```\n\nIron rusts.") == {"```sh make it": "Install it:"}


def test_closing_tags_end_with_their_sentence() -> None:
    text = "<p><em>Oak is hard.</em></p> <p>Iron rusts. It is cheap.</p>"
    cuts = slices(text, sentence_edges(text))
    assert cuts == ["<p><em>Oak is hard.</em></p>", " <p>Iron rusts.", " It is cheap.</p>"]


def test_in_a_chat_with_times_names_may_be_small_and_answers_stand_under_what_was_asked() -> None:
    text = "[09:14] ada: can it run?\n[09:15] ruiz: no. not twice\n[09:16] ada: so I wait?\n[09:20] ruiz: yes\nuntil 9"
    assert [begin for begin, *_ in speeches(text)] == [0, 24, 52, 76]
    needs = needed_sentences(text)[0].tolist()
    starts = sentence_edges(text).tolist()
    assert needs[starts.index(24)] == starts.index(0)
    assert needs[starts.index(76)] == starts.index(52)


def test_what_goes_on_in_items_leads_them_without_a_colon() -> None:
    text = "(1) Oak may go. It may stay if\n  a) it is dry,\n  b) it is old.\n(2) Iron goes.\n- first\n- last"
    assert needs(text) == {
        "It may stay": "(1) Oak may",
        "a) it is": "It may stay",
        "b) it is": "It may stay",
    }


def test_all_of_a_section_stands_under_its_heading() -> None:
    text = "Wheels\n\nOak is hard. Iron rusts. It is cheap.\n\nPaint helps. Blades\n\nSteel lasts. Tin bends."
    assert needs(text) == {
        "Oak is hard.": "Wheels",
        "Iron rusts.": "Wheels",
        "It is cheap.": "Iron rusts.",
        "Paint helps.": "Wheels",
        "Blades": "Wheels",
        "Steel lasts.": "Wheels",
        "Tin bends.": "Wheels",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Ada Lund baute das Wehr. Sie verkaufte es.",
        "Ada Lund baute das Wehr. Allerdings brach es.",
        "Ada Lund a construit le barrage. Elle le vendit.",
        "Ada Lund construyó la presa. Sin embargo, cedió.",
        "Ada Lund baute das Wehr. Danach brach es.",
        "アーダは堰を建てた。 彼女はそれを売った。",
        "بنت آدا السد. هي باعته.",
    ],
)
def test_pronouns_of_other_languages_need_whom_they_mean(text: str) -> None:
    assert needed_sentences(text)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def turn():\n    # The river is low. We wait.\n    wait()\n", [11, 56]),
        ("server:\n  port: 8443\n  # never in production\n  debug: false\n  # end\n", [7, 20, 59, 68]),
        ("if low:\n    wait()\n# otherwise\nelse:\n    turn()\n", [7, 18, 30, 36, 48]),
        (
            "// of a wheel\nfunction price(wheel) {\n  // staff\n  if (wheel.mine) {\n    return 0;\n  }\n}\n",
            [37, 68, 82, 86, 89],
        ),
        ("-- unpaid\nSELECT customer\nFROM debts\nWHERE cents > 0;\n", [54]),
        ("# Wheels\nOak lasts.\nIron rusts in the river.\n", [8, 19, 45]),
    ],
)
def test_a_comment_in_code_is_one_with_the_line_below_it(text: str, lines: list[int]) -> None:
    assert [*sentence_edges(text).tolist()[1:], len(text)] == lines


def test_the_end_of_a_paragraph_is_not_looked_for_behind_each_of_its_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Alone:
        def match(self, text: str, begin: int) -> None:
            asked.append(begin)

    monkeypatch.setattr("lingua.text.needs._ALONE", Alone())
    needed_sentences("The mill was sold. The weir was built. " * 9 + "It burned.\n\nThe smith left.")
    assert len(asked) <= 1


@pytest.mark.parametrize("text", ["It calls self._pool.write(key) and waits.", "See lingua.text.words for it."])
def test_names_of_code_are_not_the_end_of_a_sentence(text: str) -> None:
    assert len(sentence_edges(text)) == 1


@pytest.mark.parametrize("line", ["import json", "USUAL = Allowance()", "from lingua import Prompt", "self._layers[0]"])
def test_a_line_of_code_is_no_heading(line: str) -> None:
    assert not heads(f"{line}\n\nIron rusts.\n\nSteel lasts.")


@pytest.mark.parametrize(
    "title",
    [
        "Document [3](Title: Vale (town) of Ord) ",
        "[1] Port of Vale: ",
        "Title: Port of Vale\n",
        "Titel: Der Hafen\n",
    ],
)
def test_all_of_a_passage_stands_under_its_title(title: str) -> None:
    text = f"{title}The outer harbour was dug between 1922 and 1927 by Ruiz. Ferries leave for Lund.\n"
    assert heads(text) == [title.strip()]
    assert needed_sentences(text)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("text", ["As in [3] it rains. It pours.", "See [1]. It rains: it pours.", "[x](y) is. Is it?"])
def test_a_note_is_no_title(text: str) -> None:
    assert not heads(text)


@pytest.mark.parametrize(
    "text", ["- am 24. und 31. Dezember zu\n", "Socket: E14, max. 7 W LED", "Die Fa. Voith ist alt."]
)
def test_abbreviations_end_no_sentence(text: str) -> None:
    assert len(sentence_edges(text)) == 1


def test_lines_of_code_that_is_long_or_left_open_are_sentences_of_their_block() -> None:
    text = "See:\n\n```py\nimport os\n# It is. Is it?\n\nrun(os)\n"
    assert needs(text) == {"```py": "See:", "import os": "```py", "# It is.": "```py", "run(os)": "```py"}


def test_quoted_lines_stand_under_the_line_that_says_who_wrote_them() -> None:
    text = "Hi Dev.\n\nOn Monday Ada wrote:\n> It is down. Why?\n>\n> On Sunday Ruiz wrote:\n>> All is well.\n"
    found = needs(text)
    assert found["> It is"] == "On Monday Ada"
    assert found[">> All is"] == "> On Sunday"


def test_a_branch_stands_with_the_one_before_it() -> None:
    found = needs("try:\n    import readline\nexcept ImportError:\n    known = False\nelse:\n    known = True\n")
    assert (found["except ImportError:"], found["else:"]) == ("try:", "except ImportError:")


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("It costs 10 times 20 euros.\n= 200 euros", True),
        ("Lund left the mill. At any rate, Ruiz built it.", True),
        ("Lund left the mill. Among them was Ruiz.", True),
        ("Lund left the mill. Due to this, Vale fell.", True),
        ("Lund left the mill. In March 1990 he sold it.", True),
        ("Lund left the mill. When the wheel was sold, they came.", True),
        ("Lund left the mill. In his later years Ruiz came.", True),
        ("Lund left the mill. In 1990, Ruiz said he sold it.", False),
        ("Lund left the mill. The man said he sold it.", False),
        ("Lund left the mill. After the people who say they sold it, Ruiz came.", False),
        ("Lund left the mill. As of 2010 there were 20.", False),
    ],
)
def test_what_goes_on_from_the_line_before_needs_it(text: str, needed: bool) -> None:
    assert needed_sentences(text)[0].tolist() == [0, int(not needed)]


def test_a_small_letter_behind_an_exclamation_goes_on() -> None:
    assert len(sentence_edges("He directed Duck, You Sucker! after Ruiz had left. It was good. It pays.")) == 3


def test_a_question_or_a_short_line_heads_what_stands_right_below_it() -> None:
    text = (
        "May I bring a dog?\nSmall dogs are free. Large ones pay.\n\nIs it late?\nHalf is paid back.\n\n"
        "Action items\n- Ruiz: paint the mill\n- Lund: ask Vale\n\nOpen points\nThe budget is unclear."
    )
    found = needs(text)
    assert found["Small dogs are"] == "May I bring"
    assert found["Half is paid"] == "Is it late?"
    assert found["- Ruiz: paint"] == found["- Lund: ask"] == "Action items"
    assert found["The budget is"] == "Open points"


def test_lines_with_labels_of_their_own_are_not_said_by_the_one_above() -> None:
    text = "Weight: 1.6 kg\nCharging time: 45 min to 80%. It may vary.\nWarranty: 3 years"
    assert [text[begin:end].strip() for begin, _, end in speeches(text)] == ["Weight: 1.6 kg", "Warranty: 3 years"]
    assert not heads(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("update the readme\nfix the typo in the docs\nadd tests\n", 3),
        ("UPDATE ON THE PROJECT\nThe mill was sold to the town in May.\nThe weir leaks.\n", 3),
        ("select a colour\n  - wash the brush\n  - paint the wall\n", 3),
        ("SELECT\n  name,\n  owner\nFROM\n  mills\nLEFT JOIN weirs ON weirs.mill = mills.id\nORDER BY name\n", 1),
        ("select name\nfrom mills\nwhere sold is null\n", 1),
    ],
)
def test_only_the_clauses_of_a_query_belong_to_it(text: str, sentences: int) -> None:
    assert len(sentence_edges(text)) == sentences


def test_behind_a_role_brackets_may_say_whose_it_is() -> None:
    text = "Kim: Why is it 20 euros?\n\nAgent (Rosa): I see. It is free until April.\n\nKim: Thanks."
    assert [text[begin:label].strip() for begin, label, _ in speeches(text)] == ["Kim:", "Agent (Rosa):", "Kim:"]


def test_the_name_of_a_class_is_of_its_module() -> None:
    assert len(sentence_edges("Caused by: com.vale.mill.StaleWheelError: version 4 expected, found 5")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[1] The mill was sold, and the weir {of oak} was not. " + "It turned in the river Ord for forty years. " * 9,
        '{"a": 1} is what it says, [1, 2] what it means. ' + "It turned in the river Ord for forty years. " * 9,
        '["a", b] ' * 50,
    ],
)
def test_prose_that_begins_with_a_bracket_is_no_json(text: str) -> None:
    assert not layout(text).under
    assert not layout(text).blocks


def test_lines_that_json_unfolds_to_hold_as_much_as_fits() -> None:
    for item in ("7", '"oak"', '{"a": 1}', '{"a": [{"b": {"c": "oak"}}]}'):
        text = json.dumps([json.loads(item)] * 9_000)
        assert len(layout(text).breaks) < len(text) / 200


@pytest.mark.parametrize(
    "label",
    [
        "Ada Lund  00:02:20",
        "Ada Lund   0:47",
        "Speaker 1 [00:47]",
        "Ada Lund  9:02 AM",
        "ada_l — Today at 9:02 AM",
        "Ada de Lund (Vale)  12/05/2026, 09:14:05",
        "[2026-05-04 09:40] Support (Ada Lund):",
        "[2026-05-04 09:40] Internal note (Ada Lund):",
    ],
)
def test_lines_of_a_transcript_are_said_by_the_line_with_the_name_and_the_time(label: str) -> None:
    text = f"Ruiz Ord  00:02:05\nOak is hard.\n\n{label}\nGood. Iron rusts.\n\nPaint helps."
    found = needs(text)
    assert {found["Iron rusts."], found["Paint helps."]} == {" ".join(label.split()[:3])}
    assert heads(text) == ["Ruiz Ord  00:02:05", label]


def test_messages_with_a_date_answer_the_one_before() -> None:
    text = "[12/05/2026, 09:14:05] Ada: Is it late?\n[12/05/2026, 09:20:44] Ruiz: No, but cold."
    assert needed_sentences(text)[0].tolist() == [0, 0]


def test_headings_stand_under_those_above_them() -> None:
    text = (
        "# Mills\n\n## [2.0]\n\n### Removed\n\n- Oak wheels.\n\n"
        "## [1.0]\n\n`turn`\n\nIron rusts.\n\n### Added\n\nTin bends."
    )
    found = needs(text)
    assert (found["- Oak wheels."], found["### Removed"], found["## [2.0]"]) == ("### Removed", "## [2.0]", "# Mills")
    assert (found["Iron rusts."], found["`turn`"]) == ("`turn`", "## [1.0]")
    assert (found["Tin bends."], found["### Added"], found["## [1.0]"]) == ("### Added", "## [1.0]", "# Mills")


def test_the_title_above_another_heading_is_that_of_the_whole_text() -> None:
    text = (
        "Hydra mill with nine blades of the best oak\n\nParts\n\nOak is hard.\n\nPRICES\n\nFor members\n\nIron is free."
    )
    found = needs(text)
    assert found["Parts"] == found["PRICES"] == "Hydra mill with"
    assert found["For members"] == "PRICES"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("LANGUAGES", "Portuguese, Polish"),
        ("Action items", "| # | Who |\n|---|---|\n| 1 | Ruiz |"),
        ("Technical details", "Weight    2.9 kg"),
        ("Company Participants", "Laura Vale - Vice President, Investor Relations"),
        ("Trainee, Vale", "06/2016 – 08/2017"),
        ("Warnings and precautions", "Ask your doctor before you take it if:\n- you are ill"),
        ("Early life[edit]", "Ruiz was born in Ord.[3]"),
        ("Ada Lund", "Who pays?"),
    ],
)
def test_a_short_line_heads_what_stands_right_below_it_if_that_is_no_running_text(head: str, body: str) -> None:
    text = f"Others\n\nOak is hard.\n\n{head}\n{body}\n\nIron rusts."
    assert needs(text)["Iron rusts."] == " ".join(head.split()[:3])
    assert head in heads(text)


def test_who_answers_under_a_name_needs_the_question() -> None:
    text = "Ada Lund\nIs it for sale?\n\nRuiz Ord\nNot now."
    assert needs(text) == {"Is it for": "Ada Lund", "Ruiz Ord": "Is it for", "Not now.": "Ruiz Ord"}


@pytest.mark.parametrize("mark", ["8.", "8.2", "8.2.1.", "(c)"])
def test_the_title_of_an_item_says_nothing_alone(mark: str) -> None:
    text = (
        f"{mark} Lease and Rent. It is 90 euros. A fee is due.\n{mark.replace('8', '9').replace('c', 'd')} Oak is hard."
    )
    found = needed_sentences(text)
    assert heads(text) == [f"{mark} Lease and Rent."]
    assert found[0].tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Unlike Wu et al. [3], we freeze it.", 1),
        ("![Figure 1](fig1.png)", 1),
        ("*Figure 1. The mill.*\n\nIt is old.", 3),
        ("LICENSEE SHALL NOT: (A) COPY IT; (B) RENT OR LEND IT; OR (C) REMOVE ANY NOTICE.", 1),
    ],
)
def test_no_sentence_begins_with_what_goes_on(text: str, count: int) -> None:
    assert len(sentence_edges(text)) == count


def test_items_and_lines_apart_are_no_headings_but_a_list_under_the_first() -> None:
    steps = ["Switch off the pump", "Close valves A and B", "Unscrew the cover"]
    text = "\n\n".join(
        ["Filter", *(f"{at}. {one}" for at, one in enumerate(steps, 1)), "Tools", "Key", "Cloth", "Oil", ""]
    )
    assert heads(text) == ["Filter", "Tools"]
    assert needed_sentences(text)[0].tolist() == [0, 0, 0, 0, 4, 4, 4, 4]


def test_the_rest_of_a_formula_stands_with_it() -> None:
    assert needs("Ruiz wins.\n\n$$a = b,$$\n\nwhere b is 8.")["where b is"] == "$$a = b,$$"


def test_lines_in_capitals_go_on_in_none_with_small_letters() -> None:
    assert heads("BUGS\n  Links are followed.\n\nSEE ALSO\n  logrotate, find\n") == ["BUGS", "SEE ALSO"]
    assert not heads("THE MILL IS SOLD BY\nRUIZ AND LUND AS IT")


@pytest.mark.parametrize(
    "text",
    [
        "Ada Lund costruì la diga. Lei la vendette.",
        "Ada Lund costruì la diga. Tuttavia cedette.",
        "Ada Lund construiu a represa. Ela vendeu tudo.",
        "Ada Lund construiu a represa. Isso custou caro.",
        "Ада построила плотину. Она её продала.",
        "Ада построила плотину. Однако она рухнула.",
        "Ada zbudowała tamę. Jednak pękła.",
        "무료 나룻배가 운항한다. 그러나 자동차는 싣지 않는다.",
        "에이다는 댐을 지었다. 그는 그것을 팔았다.",
        "渡し船が運航される。ただし、自動車は載せない。",
        "ستعمل عبارة مجانية. وهي لا تنقل السيارات.",
        "मेघालय एक राज्य है। इसकी राजधानी शिलांग है।",
        "मेघालय एक राज्य है। यह 1972 में बना था।",
        "Ankara başkenttir. Bu şehir büyüktür.",
        "Ada Lund byggde dammen. Hon sålde den.",
        "Ada Lund bouwde de dam. Hij brak echter.",
        "Ada postavila hráz. Potom praskla.",
        "Ада збудувала греблю. Вона її продала.",
        "Ada membangun bendungan. Namun, bendungan itu runtuh.",
        "Waren können zurückgegeben werden. Davon ausgenommen sind Lebensmittel.",
        "Die Garantie gilt zwei Jahre. Hiervon ausgenommen sind Akkus.",
        "The fee is 5 euros. The above does not apply to students.",
        "Dogs may enter. The same applies to cats.",
        "It can bleed. Stop taking it and see a doctor at once if this happens.",
        "Marta laughed. “He will not get it.”",
        "„Nein“, sagte er. „Sie hat es dir vererbt.“",
    ],
)
def test_what_opens_so_needs_the_one_before_in_more_languages(text: str) -> None:
    assert needed_sentences(text)[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    "opens",
    [
        *("Dog owners", "Hans Lund", "Han emperors", "Sedan drivers", "Proto-Slavic", "Hon. Lund", "Dia 5"),
        *("Ella Fitzgerald", "Lei Jun", "Ona Berg", "Ela Lund", "Ama Dablam", "CE marking"),
    ],
)
def test_words_of_one_language_do_not_refer_back_in_another(opens: str) -> None:
    assert needed_sentences(f"The mill was sold. {opens} came to Vale.")[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "Biuro jest czynne w godz. 8–16, z wyjątkiem świąt.",
        "Mieszka przy ul. Długiej 5.",
        "Siehe Art. 5 Abs. 1 des Vertrags.",
        "Die Hauptstr. 5 ist gesperrt.",
        "El Sr. Ruiz y la Sra. Lund llegaron.",
        "Véase pág. 12 y núm. 4 del acta.",
        "Il Sig. Rossi e la Dott. Lund.",
        "O Sr. Silva e a Dra. Costa vieram.",
        "Родился в г. Москва на ул. Ленина.",
        "Dhr. Jansen en mevr. Bos kwamen.",
        "It costs 5 USD excl. VAT.",
        "डॉ. मेहता ने 2019 में इसकी स्थापना की।",
        "وصلت د. ليلى حداد إلى حلب.",
        "Приехал Гл. Врач Иванов.",
        "Ayer llegó Dña. Ana Ruiz.",
    ],
)
def test_abbreviations_of_more_languages_end_no_sentence(text: str) -> None:
    assert len(sentence_edges(text)) == 1
    assert len(sentence_edges(f"{text} {text}")) == 2


@pytest.mark.parametrize(
    ("text", "needs", "heads"),
    [
        (
            "Background: Oak is hard. Elm is not. Methods: Two mills were seen. Ada counted. Results: Oak lasts.",
            [0, 0, 0, 3, 3, 3, 6],
            [0, 3],
        ),
        ("Material: Oak and elm. Care: Oil it. Keep it dry. Next steps: Ask Ada Lund.", [0, 1, 1, 1, 4], [1]),
        ("Q: Is it open on Mondays? A: No. Q: Are dogs allowed? A: Only guide dogs.", [0, 0, 2, 2], [0, 2]),
        ("Oak is hard. Note: Ash rots. Ash does not last.", [0, 1, 2], []),
        ("User: Oak is hard. Note: Ash rots. Ash does not last.", [0, 0, 0, 0], [0]),
    ],
)
def test_parts_of_a_paragraph_with_a_label_stand_behind_their_own(
    text: str, needs: list[int], heads: list[int]
) -> None:
    found, leading = needed_sentences(text)
    assert (found.tolist(), [at for at, leads in enumerate(leading) if leads]) == (needs, heads)


def test_a_heading_with_a_number_is_the_one_that_counts_not_its_line_in_the_contents() -> None:
    text = (
        "Contents\n1. What the mill is and what it grinds\n2. Blades\n\n"
        "1. What the mill is and what it grinds\nOak is hard. Iron rusts in the river of Vale and in that of Ord.\n\n"
        "2. Blades\nSteel lasts."
    )
    assert heads(text) == ["Contents", "1. What the mill is and what it grinds", "2. Blades"]


def test_what_a_label_says_in_small_letters_is_said_before_the_rest() -> None:
    text = "Adults: one tablet every 6 hours. Children must not take it."
    assert needed_sentences(text)[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("mark", ["*", "**", "†"])
def test_a_note_stands_with_what_it_is_about(mark: str) -> None:
    text = f"| Site | Price |\n|---|---|\n| Pool | 4 |\n| Sauna{mark} | 18 |\n\n{mark}Adults only. Bring a towel."
    assert needed_sentences(text)[0].tolist() == [0, 0, 0, 2, 3]
    assert needed_sentences("The pool is *warm*.\n\n*Adults only* on Mondays.")[0].tolist() == [0, 1]
