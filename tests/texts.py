"""Strings that break text code, and plain prose to compress; shared parameters of the tests."""

from __future__ import annotations

from base64 import b64encode

PROSE = (
    "The committee met in Vienna on 14 March to settle the price of coal, and nobody expected an agreement. "
    "Dr. Amal Haddad, who had written the first proposal, spoke for twenty minutes about tariffs. "
    "Her numbers were plain: 3,200 tonnes a week, at $41.50 each, delivered to the river port before noon. "
    "A clerk asked whether the barges could wait; the answer was no.\n"
    "Outside it rained, the trams were late, and a small dog slept under the table of the café. "
    "In the end they voted seven to two, signed the paper, and went to dinner without saying a word. "
)
"""About 120 words with names, figures and a line break."""

NASTY = {
    "empty": "",
    "space": " ",
    "white space": " \t \u3000 \n ",
    "line breaks": "\n\n\r\n\r\n\n",
    "nul": "a\0b \0\0 c\0",
    "emoji": "Fine 👍🏽 family 👨‍👩‍👧‍👦 and flags 🇩🇪🇫🇷 done 🙃",
    "odd flags": "🇩🇪🇫 and 🇦",
    "chinese": "委员会三月十四日在维也纳开会，讨论煤炭价格。没有人预料会达成协议。",
    "japanese": "漢字とひらがなとカタカナの混ざった文章です。今日は天気がいい。",
    "thai": "สวัสดีครับวันนี้อากาศดีมากเราไปเดินเล่นกันเถอะ",
    "arabic": "مرحبا بالعالم، هذا نص عربي طويل قليلا. كيف حالك اليوم؟",
    "hindi": "नमस्ते दुनिया। क्षत्रिय और ज्ञान की बातें।",
    "combining": "e\u0301tude nai\u0308ve co\u0302te\u0301 Z\u0351\u036b\u0343a\u0363\u0366l\u0369go",
    "replacement": "already \ufffd broken \ufffd\ufffd here",
    "byte order mark": "\ufeffbegins with a mark",
    "private use": "a\ue000b\U0010ffffc",
    "angle bracket": "if a < b and b > c then <tag attr='x'> & </tag>",
    "special tokens": "<s> </s> <|endoftext|> <|im_start|>user [MASK] <pad> <unk> <bos>",
    "windows lines": "one\r\ntwo\r\n\r\nthree\r\n",
    "no spaces": "supercalifragilistic" * 30,
    "json": '{"a": [1, 2, {"b": "c\\n"}], "d": null, "e": 1.5e-7}',
    "punctuation": "?!?!... --- *** ((())) ;;; ,,,",
}
"""Short ones, by name."""

LONG = {
    "one line": "x" * 200_000,
    "flags": "🇩🇪" * 20_000,
    "white space": " " * 200_000,
    "no repeats": " ".join(f"w{number * 7919 % 99991:x}" for number in range(30_000)),
    "chinese": "委员会三月十四日在维也纳开会" * 4_000,
    "accents": "e\u0301" * 50_000,
    "windows lines": "line\r\n" * 30_000,
    "backticks": "use `a` and `b` " * 6_000,
    "table": "| a1 | b. C | 3.5 |\n" * 5_000,
    "minified": '{"id":12,"n":"Bob. X","v":[1.5,2]},' * 2_500,
    "base64": b64encode(bytes(number * number % 251 for number in range(75_000))).decode(),
    "empty lines": "a\n\n\n" * 20_000,
    "brackets": "(a.)[" * 15_000,
    "thai": "คณะกรรมการประชุมเมื่อวันอังคาร" * 2_500,
    "emoji": "👨‍👩‍👧‍👦" * 10_000,
}
"""Long enough to show what is not linear."""
