"""What is kept as a whole, what goes with what, and how a cut sentence is closed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingua import CompressedPrompt, Prompt
from lingua.text.lines import layout
from lingua.text.needs import needed_sentences
from lingua.text.sentences import Clauses, sentence_edges
from lingua.text.words import slices
from tests.lingua.echo import compress


def test_lines_of_a_wrapped_paragraph_are_no_clauses() -> None:
    text = (
        "The city of Vale keeps the wheel of the old mill in good order, since some visitors\nask for it: they come "
        "from as far as Ord, and the wheel was made by\nRuiz. It turns.\n\nOak, which is hard\nIron, which rusts\n"
    )
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    assert [cut.strip() for cut in slices(text, clauses.begins)] == [
        "The city of Vale keeps the wheel of the old mill in good order,",
        "since some visitors\nask for it: they come from as far as Ord,",
        "and the wheel was made by\nRuiz.",
        "It turns.",
        "Oak, which is hard",
        "Iron, which rusts",
    ]


def compressed(text: str, rate: float) -> str:
    (found,) = compress([Prompt(context=[text])], method="evidence", rate=rate)
    assert isinstance(found, CompressedPrompt)
    return found.text


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_no_speech_without_its_speaker(rate: float) -> None:
    text = "User: Hello to you. The train leaves Cologne at 9:35.\nAssistant: How nice. Ruiz built the bridge in 1911."
    kept = compressed(text, rate)
    assert ("9:35" in kept) <= ("User:" in kept)
    assert ("1911" in kept) <= ("Assistant:" in kept)


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
def test_no_line_heads_nothing(rate: float) -> None:
    text = (
        "Wheels\n\nThese are made:\n\n- Oak ones last 40 years in the water of Ord.\n- Iron ones cost 30 euros.\n\n"
        "Blades\n\nRuiz: They are dear. The smith in Vale makes 25 of them.\n\nQ: Who pays?\nA: Ada Lund paid in 1899."
    )
    kept = compressed(text, rate)
    for head, body in (
        ("Wheels", "made:"),
        ("made:", "ones"),
        ("Blades", "Ruiz:"),
        ("Q: Who", "A: Ada"),
    ):
        assert (head in kept) <= (body in kept), kept
    assert ("Ruiz:" in kept) == ("dear" in kept or "25" in kept)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8])
@pytest.mark.parametrize(
    "text",
    [
        "Wheels:\n\n- Oak ones last for forty years in the cold water of the river Ord.\n",
        "Wheels\n\nOak ones last for forty years in the cold water of the river Ord, as everybody knows.",
        "User: Hello there you all. Oak ones last for forty years in the water.",
        "Q: What is the very long question about?\nA: It is a long answer of many words.",
        "services:\n  web:\n    image: vale/web:2.1\n    ports:\n      - 8080:80\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    ],
)
def test_something_is_left_of_every_text(text: str, rate: float) -> None:
    assert compressed(text, rate).strip()


def test_what_a_colon_leads_needs_the_clause_that_ends_with_it() -> None:
    text = "Mills can be used for a wide range of works, some of which include:\n\n1. Oak for Lund.\n2. Rye for Ruiz."
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    assert clauses.host.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "Die Versammlung hat am Dienstag beschlossen, das Bad nicht zu schließen, sondern es zu sanieren.",
        "Met de bus is men er in tien minuten, als het niet regent. Eva Kern, die eerder had gewaarschuwd, zei niets.",
    ],
)
def test_sentences_of_a_language_that_has_some_of_the_verbs_of_english_stay_whole(text: str) -> None:
    edges = sentence_edges(text)
    assert Clauses.of(text, edges, needed_sentences(text)[0]).begins.tolist() == edges.tolist()


def test_of_two_infinitives_the_second_goes_with_the_first() -> None:
    text = "It is granted, to any person in town, to deal in the goods, including all rights to sell, and to lend them."
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    stretches = [one.strip() for one in slices(text, clauses.begins)]
    piece = dict(zip(stretches, clauses.piece.tolist(), strict=True))
    assert clauses.host[piece["and to lend them."]] == piece["to deal in the goods,"]


def test_what_fills_a_budget_breaks_off_within_no_bracket() -> None:
    text = (
        "The mill (which Ada Lund bought in 1899 for 40 euros, paid by the town) is open. It has stood in Ord since "
        "the 14th century and has four wheels."
    )
    for target in range(4, 40):
        (found,) = compress([Prompt(context=[text])], method="evidence", target_token=target)
        assert isinstance(found, CompressedPrompt)
        assert found.text.count("(") == found.text.count(")"), found.text


def test_all_clauses_of_a_sentence_need_what_it_needs() -> None:
    text = "Wheels\n\noak ones\niron ones\nsteel ones, which rust in the river Ord"
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    assert not any(host == at for at, host in enumerate(clauses.host.tolist()) if at)


def test_every_clause_needs_one_that_is_there_also_where_a_list_runs_on() -> None:
    text = "They are 91%, 82%, and aa levels, at acid level, is CD40L proteins, and receptor binding"
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    assert set(clauses.host.tolist()) <= set(clauses.piece.tolist())


YAML = """kind: Job
metadata:
  name: worker
  labels:
    tier: backend
spec:
  replicas: 4
  containers:
    - name: exporter
      image: prom/node:1.7
      ports:
        - port: 9100
  volumes:
    - name: cache
"""
JSON = """{
  "order": {
    "id": "A-20991",
    "customer": {
      "name": "Ilse Varga"
    },
    "items": [
      {
        "title": "Desk lamp, brass",
        "quantity": 2
      }
    ],
    "total": 119
  }
}
"""


def parents(text: str) -> dict[str, str]:
    """The line that each line of a text is indented under."""
    lines = [line for line in text.splitlines() if line.strip(" {}[],")]
    deep = [len(line) - len(line.lstrip()) for line in lines]
    above = {
        line: [one for one, d in zip(lines[:at], deep, strict=False) if d < deep[at]] for at, line in enumerate(lines)
    }
    return {line: found[-1] for line, found in above.items() if found}


@given(
    st.floats(0.1, 0.95), st.sampled_from([YAML, JSON]), st.sampled_from(["", "Which port?", "Who is the customer?"])
)
@settings(deadline=None, max_examples=60)
def test_no_key_without_those_that_it_stands_under(rate: float, text: str, question: str) -> None:
    (found,) = compress([Prompt(context=[text], question=question)], method="evidence", rate=rate)
    assert isinstance(found, CompressedPrompt)
    kept = found.text.splitlines()
    assert all(above in kept for line, above in parents(text).items() if line in kept), found.text


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7, 0.9])
def test_what_a_line_opens_is_closed(rate: float) -> None:
    kept = compressed(JSON, rate)
    assert kept.count("{") == kept.count("}")
    assert kept.count("[") == kept.count("]")
    code = "```sh\n" + "".join(f"make wheel{n} && echo {n}\n\n" for n in range(99)) + "```\n\nIron rusts."
    assert compressed(code, rate).count("```") in (0, 2)


def least(text: str) -> str:
    """What is left of a sentence at least, without the mark that closes it."""
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    alone = clauses.host.tolist().index(0) if clauses.host[0] == 0 else int(clauses.host[0])
    cuts = zip(slices(text, clauses.begins), clauses.piece.tolist(), strict=True)
    return "".join(cut for cut, piece in cuts if piece == alone).strip(" ,.")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        # what may be a participle is no verb of a clause that has none yet
        ("Demonstrators, some disguised as sailors, destroyed an entire shipment of tea.", ...),
        ("His father, Tom, worked as a clerk for the port, while his mother, Gail, served as an assistant.", ...),
        # a "but" with a subject of its own, whose verb comes later
        ("Vale had some success with this, but the release of the wheel in 1981, designed by Ruiz, changed it all.", 0),
        # it says what is not, and then what is
        ("He used the telephone to call his father not for help, but rather to tell him that he won.", ...),
        # a name between commas goes with what it tells more of, and ends no adverbial
        ("After the release of his third wheel, Oak, Ruiz began to build mills.", ...),
        ('In light of the big winner of 1997, "Vale", the mill won one prize.', ...),
        ("The games were held in the old town of Olympia, Greece, from the 8th century to the 4th.", 1),
        ("He was born in Chertsey, Surrey, England, and moved to the mill at Vale in 1931.", 2),
        # a list is not cut before its last name
        ("These states of the south are Bolivia, Brazil, Chile, Peru, Suriname, and Uruguay.", ...),
        ("The height of it varies from low plains, where it rains all year, to high glaciers.", ...),
        ("The old mill didn't turn in the winter of 1931, which was cold.", 0),
        # what restricts a sentence stays with it, and what is concluded with what it follows from
        ("Tickets are sold until 16:30, but only at the main door.", ...),
        ("The tenant pays for all damage, save in cases of old age.", ...),
        ("Dogs may enter the old mill, and only in winter.", ...),
        ("The parcel takes three days, although it may take five.", ...),
        ("Nobody has looked at the wheel yet, so it will not turn in 1931.", ...),
        ("He served as mayor of the town, but he did not like it.", 0),
        # an auxiliary with an adverb waits for its verb behind what is inserted
        ("The governor may still, on the advice of the mayor, close the old mill.", ...),
    ],
)
def test_the_least_of_a_sentence_says_what_the_text_does(text: str, kept: object) -> None:
    """`kept`: up to its comma of that number, from 0; an ellipsis: all of it."""
    whole = text.strip(".")
    assert least(text) == (whole if kept is ... else ",".join(whole.split(",")[: int(str(kept)) + 1]))


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize(
    "text",
    [
        "Timothy Mark Alexander is a retired professional footballer who played as a central defender for Wimbledon.",
        "In 2018 he moved to Paris and his sister Lili started the publisher Lezen and bought Arcadia Publishing.",
        "She turns to him for advice and it is hinted that he is in love with her when he shows signs of jealousy.",
        "It accounted for 39% of the production in 2014 and for 33% in 2015 of all of the states in the union.",
    ],
)
def test_a_cut_sentence_does_not_end_with_a_word_that_needs_the_next(text: str, rate: float) -> None:
    kept = compressed(text, rate)
    assert len(kept) < len(text)
    last = kept.rstrip(".").split()[-1]
    assert last not in {"a", "as", "the", "and", "his", "for", "of", "in", "is", "to", "that", "with", "when", "who"}


def test_nothing_ends_with_a_comma_of_what_was_dropped() -> None:
    text = "The recording topped the charts in 1964 in all of Europe, and the Beach Boys had a hit with the song in"
    assert compressed(text, 0.7) == "The recording topped the charts in 1964 in all of Europe"


def test_what_none_may_lose_all_of_keeps_the_beginning_of_a_clause_and_not_a_word() -> None:
    texts = [
        "I was wondering whether the branch on Harbour Street would by any chance be open this coming Saturday.",
        "Monday to Friday 9:00 to 18:00. Saturday 10:00 to 14:00. Between 20 December and 6 January it is closed.",
        "Ada Lund built the weir in 1899 for 40 euros. Ruiz paid 30 euros in 1901. It broke on 4 May 1902 at 9:30.",
    ]
    (found,) = compress([Prompt(context=texts, keep_some=True)], method="evidence", rate=0.5)
    assert isinstance(found, CompressedPrompt)
    assert all(found.context)
    assert found.context[0].startswith("I was wondering")
    assert found.compressed_tokens <= (found.target_tokens or 0)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("The torque is 60 Nm (soft) or 95 Nm (hard).", True),
        ("It is sold at the mill (not on Sundays) for 20 euros.", True),
        ("Warranty: 3 years (battery 1 year).", True),
        ("The mill was sold to Ruiz (its third owner) in 1911.", False),
    ],
)
def test_brackets_that_restrict_or_tell_apart_stay(text: str, bound: bool) -> None:
    clauses = Clauses.of(text, sentence_edges(text), needed_sentences(text)[0])
    assert (len(clauses.begins) == 1) == bound


@pytest.mark.parametrize("target", range(3, 16))
@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (
            "The old tower of the mill in Ord can be climbed by all visitors only in dry weather. It is far.",
            "dry weather",
        ),
        (
            "The tariff of the mill is zwar cheap for all of them, aber it holds for new customers alone. It is far.",
            "alone",
        ),
        ("The lamp of the new series has 9 W and reaches 806 lm in the dark of the night in Vale.", "806 lm"),
        ("Closed on Mondays and on all of the holidays of the town of Vale and of the river Ord.", "Closed on"),
    ],
)
def test_what_fills_a_budget_loses_no_restriction_and_no_unit(text: str, whole: str, target: int) -> None:
    (found,) = compress([Prompt(context=[text])], method="evidence", target_token=target)
    assert isinstance(found, CompressedPrompt)
    kept = found.text.replace("It is far.", "").strip(". ")
    if len(kept.split()) > 2:
        first = whole.split()[0]
        assert whole in kept or (whole == "806 lm" and first not in kept), kept


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_no_query_loses_its_conditions(rate: float) -> None:
    text = (
        "UPDATE mills\nSET sold = TRUE\nWHERE owner = 'Ruiz'\n  AND year < 1911;\n\nDELETE FROM weirs\nWHERE id = 7;\n"
    )
    kept = compressed(text + "\nSELECT name\nFROM mills\nWHERE sold IS NULL;\n", rate)
    assert kept.count("UPDATE") == kept.count("SET sold") == kept.count("AND year")
    assert kept.count("DELETE") == kept.count("id = 7")
    assert kept.count("SELECT") == kept.count("sold IS NULL")


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
@pytest.mark.parametrize(
    ("rule", "exception", "others"),
    [
        ("open daily.", "Except on Mondays.", "The museum is open daily. Except on Mondays. The tour takes an hour."),
        ("all rooms.", "Not in the restaurant.", "Dogs may enter all rooms. Not in the restaurant. The pool is warm."),
        ("um 9 Uhr.", "Außer an Feiertagen.", "Der Zug fährt um 9 Uhr. Außer an Feiertagen. Er hält oft."),
    ],
)
def test_a_rule_is_not_kept_without_the_exception_behind_it(
    rule: str, exception: str, others: str, rate: float
) -> None:
    kept = compressed(others + " Children pay half, and so do students. Parking is free.", rate)
    assert (rule in kept) == (exception in kept)


@pytest.mark.parametrize("rate", [0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
def test_the_little_that_fits_still_states_something(rate: float) -> None:
    shop = "You can pay by card. The shop is on the first floor near the lift. Parking is free."
    library = "The meeting was at the town hall near the market. Ruiz came late and left early. The vote was close."
    for text in (shop, library, "The shop is on the first floor near the lift. Parking is free for all our guests."):
        kept = compressed(text, rate).rstrip(".").split(". ")
        assert all(len(one.split()) >= 3 and not one.endswith("first") for one in kept), kept


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_code_is_kept_with_what_it_needs_to_be_code(rate: float) -> None:
    text = (
        "import json\n\n@app.route('/items')\n@login_required\ndef item(number):\n    try:\n        it = old[number]\n"
        "        count(number)\n    except KeyError:\n        abort(404)\n    finally:\n        close(number)\n"
        "    return render(it)\n"
    )
    kept = compressed(text, rate)
    assert ("@login_required" in kept) == ("@app" in kept) == ("def item" in kept)
    assert ("try:" in kept) == ("except" in kept)


@pytest.mark.parametrize("rate", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_no_comma_stands_before_what_closes(rate: float) -> None:
    assert not re.search(r",\s*[\]}]", compressed(JSON, rate))


@pytest.mark.parametrize("rate", [0.75, 0.85, 0.95])
def test_no_comma_ends_a_line_that_is_cut(rate: float) -> None:
    text = "Lemon cake\n\nServes 8.\n\nFor the cake:\n225 g unsalted butter, softened\n225 g caster sugar\n4 eggs\n"
    assert compressed(text, rate).split("\n")[-3:] == ["225 g unsalted butter", "4 eggs", ""]


@pytest.mark.parametrize(
    "text",
    [
        '{"items": [{"title": "Oak wheel", "price": 34.9}, {"title": "Weir", "price": 9}], "note": "Without tax."}',
        "```python\ndef load(path):\n    if path not in known:\n        known[path] = read(path)\n    return path\n```",
    ],
)
def test_words_that_restrict_prose_leave_code_its_beginning(text: str) -> None:
    assert len(compressed(text, 0.6).split()) > 4


FOLDED = {
    "order": {
        "id": "A-20991",
        "customer": {"name": "Ilse Varga", "city": "Szeged", "said": 'call it "oak", {not} [ash]: no, \\'},
        "items": [
            {"title": "Desk lamp, brass", "quantity": 2, "tags": ["light", "metal"], "discount": None},
            {"title": "Oak wheel", "quantity": 1, "tags": [], "weights": [12.5, -3e-2, 40]},
            {"title": "Iron nail, long", "quantity": 4000, "tags": ["metal"], "paid": True},
        ],
        "note": "Leave it at the mill. The door is open until nine, and Ruiz is there.",
    },
    "total": 119,
}


def is_within(kept: Any, whole: Any) -> bool:
    """Whether all that a value of JSON says another one says as well, in that order."""
    if isinstance(kept, dict) and isinstance(whole, dict):
        return all(key in whole and is_within(value, whole[key]) for key, value in kept.items())
    if isinstance(kept, list) and isinstance(whole, list):
        rest = iter(whole)
        return all(any(is_within(one, other) for other in rest) for one in kept)
    return bool(kept == whole)


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" , ", " : ")])
@pytest.mark.parametrize(
    "value", [FOLDED, [FOLDED] * 3, {"found": [FOLDED, 7, "x"], "next": []}], ids=["one", "list", "mix"]
)
def test_of_json_in_one_line_whole_members_stay_under_their_keys(
    value: Any, separators: tuple[str, str], rate: float
) -> None:
    kept = compressed(json.dumps(value, separators=separators), rate)
    assert is_within(json.loads(kept), value), kept


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_json_in_one_line_may_stand_among_other_lines_and_break_off(rate: float) -> None:
    lines = [json.dumps(FOLDED | {"total": total}) for total in (119, 204)]
    kept = compressed("Ruiz found these orders in the mill:\n\n" + "\n".join(lines) + "\n\nThe rest was lost.", rate)
    found = [line for line in kept.splitlines() if line.startswith("{")]
    assert found
    assert all(is_within({"total": 0} | json.loads(line) | {"total": 0}, FOLDED | {"total": 0}) for line in found), kept
    assert layout(lines[0][: lines[0].index("The door")]).under


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6, 0.8])
def test_sentences_of_a_long_string_of_json_stand_under_its_key(rate: float) -> None:
    said = 'Ruiz called the mill "a wreck" in 1911. It was sold to Lund, who built a wheel of oak. The weir broke. ' * 4
    text = json.dumps([{"title": title, "said": title + said, "price": 3} for title in ("Oak", "Ash", "Elm")])
    kept = compressed(text, rate).split("{")
    assert all(('"said": "' in one) == (one.count(".") > 0) for one in kept), kept


def test_a_line_with_blanks_to_fill_in_counts_nothing() -> None:
    text = "Ruiz sold the old mill to Ada Lund in 1911.\n\nDate: _________      Date: _________\n\nIt is of oak."
    assert "Date" not in compressed(text, 0.9)


@pytest.mark.parametrize("word", ["less", "minus", "plus"])
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7, 0.9])
def test_what_is_taken_off_or_added_stays(word: str, rate: float) -> None:
    text = (
        f"You will get a refund of the price of 90 euros, {word} a fee of five of these for the clerk. "
        "It is open in Vale and in Ord on all of the days of the week."
    )
    kept = compressed(text, rate)
    assert ("90" in kept) == (word in kept), kept


@pytest.mark.parametrize("rate", [0.2, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("mark", [".", ","])
def test_of_subtitles_what_is_said_is_kept_and_no_times(mark: str, rate: float) -> None:
    said = [
        "- Where was Ada Lund on Tuesday?\n- In Vale. With Ruiz.",
        "Ruiz was in Ord.",
        "Then he left. They came at eight\nand left after twelve.",
        "<i>We found his car\nnear Ord station.</i>",
    ]
    cues = [f"{at}\n00:02:1{at}{mark}240 --> 00:02:1{at}{mark}900\n{one}" for at, one in enumerate(said, 1)]
    kept = compressed("WEBVTT\n\n" * (mark == ".") + "\n\n".join(cues) + "\n", rate)
    assert "-->" not in kept
    assert not re.search(r"^\d$", kept, re.MULTILINE)
    assert ("We found" in kept) == ("station.</i>" in kept)
    assert "he left" not in kept or "Ruiz was" in kept
    assert rate < 0.9 or all(one in kept for one in said)


def test_a_line_of_the_contents_is_not_kept_beside_its_heading() -> None:
    text = (
        "Contents\n1. What the mill is and what it grinds\n2. Blades\n\n"
        "1. What the mill is and what it grinds\nOak is hard. Iron rusts in the river of Vale and in that of Ord.\n\n"
        "2. Blades\nSteel lasts."
    )
    assert compressed(text, 0.6).count("What the mill is") <= 1


def test_references_count_little_without_a_question() -> None:
    text = (
        "Ruiz sold the mill.\n\nNobody lived there after the war.\n\n## References\n\n"
        "[1] G. Hinton. Mills of Vale. In CVPR, pages 27–28, 2018.\n[2] L. Wu. Mills of Ord. Interspeech, 2022.\n"
    )
    kept = compressed(text, 0.4)
    assert "sold the mill" in kept
    assert "Nobody" in kept
    assert "2018" not in kept


BANK = (
    "Q: A baker fills 24 trays. He sells 310 rolls. How many are left?\nA: 24 trays are 432 rolls. It is 122.\n\n"
    "Q: A train covers 240 km in 3 hours. It stops. How far does it come?\nA: It is 80 km an hour. The answer is 400."
)


@pytest.mark.parametrize("rate", [0.25, 0.4, 0.5, 0.6, 0.8])
@pytest.mark.parametrize(("asks", "tells"), [("Q", "A"), ("Input", "Output")])
def test_what_is_asked_in_several_sentences_stands_whole_and_with_its_answer(
    asks: str, tells: str, rate: float
) -> None:
    kept = compressed(BANK.replace("Q:", f"{asks}:").replace("A:", f"{tells}:"), rate)
    for whole in (
        "A baker fills 24 trays. He sells 310 rolls. How many are left?",
        "A train covers 240 km in 3 hours. It",
    ):
        assert (whole[:10] in kept) == (whole in kept), kept
    assert kept.count(f"{tells}:") == kept.count(f"{asks}:")


@pytest.mark.parametrize("rate", [0.4, 0.5, 0.6, 0.8])
def test_an_example_in_tags_is_kept_whole_or_not_at_all(rate: float) -> None:
    shots = [
        ("The food was cold. Never again.", "negative"),
        ("Lovely. We come back!", "positive"),
        ("So so.", "neutral"),
    ]
    text = "\n".join(f"<example>\n<input>{one}</input>\n<output>{two}</output>\n</example>" for one, two in shots)
    kept = compressed(text, rate)
    assert all(kept.count(f"<{name}>") == kept.count(f"</{name}>") for name in ("example", "input", "output"))
    assert all((one in kept) == (two in kept) for one, two in shots)


@pytest.mark.parametrize("rate", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_no_part_of_an_abstract_is_said_under_the_label_of_another(rate: float) -> None:
    parts = {
        "Background": "The mill of Vale burned in 1931. Its wheel was of oak.",
        "Methods": "Ada Lund measured 24 wheels at Ord. Ruiz Okafor weighed them.",
        "Results": "Oak lasted for 62 years in the water. Elm lasted for 79 of them.",
    }
    kept = compressed(" ".join(f"{label}: {said}" for label, said in parts.items()), rate)
    for label, said in re.findall(r"(\w+): ((?:(?! ?\w+:).)+)", kept):
        assert all(sentence.strip(" .") in parts[label] for sentence in said.split(". "))


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.2, 0.25])
def test_next_to_a_question_nothing_is_left_rather_than_the_answer_to_another(rate: float) -> None:
    text = (
        "Frequently asked questions\n\nCan I return a used mattress?\nNo. Mattresses can only be returned unopened.\n\n"
        "Do I have to pay customs duty?\nNot within the EU. Customers in Switzerland pay it to the carrier.\n\n"
        "Is the cover washable?\nYes, at 60 degrees. Do not tumble dry."
    )
    (found,) = compress([Prompt(context=[text], question="Is it open?")], method="evidence", rate=rate)
    assert isinstance(found, CompressedPrompt)
    assert found.text == "Is it open?"


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.2, 0.25])
def test_of_a_little_budget_what_needs_nothing_has_more_than_an_item(rate: float) -> None:
    text = "The miller shall not:\n- sell the mill in 1911 to Ruiz;\n- burn oak.\n\nThe town may end this at any time."
    assert not compressed(text, rate).startswith("-")
