"""The settings of the papers' tables as plain data: `--preset gsm8k-1shot` and the like, and the ablations.

Sizes are those of LLMLingua (arXiv 2310.05736, tables 1, 2 and 5) and LongLLMLingua (arXiv 2310.06839, table 1), in
tokens of the context in GPT-3.5's tokenizer: what the prompts of the paper's own run came to under each constraint
(eight demonstrations of GSM8K are 2,366 there). `published` are the scores of its target, GPT-3.5-0301, to compare the
shape with. Ablations that a setting cannot express are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lingua.errors import ConfigError

Settings = Mapping[str, Any]

WITHOUT_A_MODEL: Mapping[str, Settings] = {name: {} for name in ("random", "truncate", "lead", "rarity")}
AGNOSTIC: Mapping[str, Settings] = {"default": {}, "paper": {}, "selective": {}, **WITHOUT_A_MODEL}
AWARE: Mapping[str, Settings] = {**AGNOSTIC, "aware": {}, "aware-tokens": {"base": "aware", "unit": "token"}}
ABLATIONS: Mapping[str, Settings] = {
    "paper": {},
    "no-segments": {"base": "paper", "iterative_size": 1_000_000},
    "no-controller": {"base": "paper", "context_budget": "*1000000"},
    "neither": {"base": "paper", "method": "selective"},
    "demonstrations-first": {"base": "paper", "context_budget": "*1"},
    "words": {"base": "paper", "unit": "word"},
    "sentences": {"base": "paper", "unit": "sentence"},
    "random-tokens": {"base": "paper", "method": "random"},
}
"""The paper's recipe, and with one thing changed: each demonstration scored at once; all demonstrations kept by the
coarse step; both, in one pass over everything; whole demonstrations as far as they fit; larger units; chance."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What one table of a paper compares.

    form         public form of its data (`forms`)
    candidates   name → settings, as `specs.make_candidate` takes them (``base`` names what they build on)
    rate, tokens what is kept of the context: shares, or numbers of tokens
    metrics      of what the target says (`textual`)
    stop         strings that end a reply
    published    score of the full prompt and of LLMLingua's in the paper, in percent
    """

    about: str
    form: str
    metrics: tuple[str, ...]
    max_tokens: int
    stop: tuple[str, ...]
    rate: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    candidates: Mapping[str, Settings] = field(default_factory=lambda: AGNOSTIC)
    tokenizer: str = "cl100k_base"
    published: tuple[float, float] | None = None

    def settings(self) -> dict[str, Any]:
        """The settings of an evaluation that this preset stands for; what is given besides prevails."""
        sizes = {"rate": self.rate} if self.rate else {"tokens": self.tokens}
        asked = {"ask": ("generate",), "max_tokens": self.max_tokens, "stop": self.stop}
        return {"candidates": dict(self.candidates), "tokenizer": self.tokenizer, **sizes, **asked}


def _gsm8k(constraint: str, tokens: int, score: float) -> Preset:
    about = f"GSM8K, eight worked demonstrations at the {constraint} constraint"
    stop = ("\nQuestion:", "\n\n\n")
    return Preset(about, "gsm8k", ("exact_number",), 400, stop, tokens=(tokens,), published=(78.85, score))


def _bbh(constraint: str, tokens: int, score: float) -> Preset:
    about = f"BIG-Bench Hard, three worked demonstrations at the {constraint} constraint"
    stop = ("\nQ:", "\n\n\n")
    return Preset(about, "bbh", ("final_match",), 512, stop, tokens=(tokens,), published=(70.07, score))


_SAID = ("rouge1", "rouge2", "rouge_l", "bleu", "similarity")


def _sharegpt(about: str, **size: Any) -> Preset:
    return Preset(f"ShareGPT, conversations {about}", "sharegpt", _SAID, 512, ("\nUser:",), **size)


def _arxiv(about: str, **size: Any) -> Preset:
    return Preset(f"arXiv of March 2023, articles {about}", "arxiv", _SAID, 512, ("\n\n\n",), **size)


def _nq(about: str, rate: float) -> Preset:
    metrics = ("subspan_em", "f1")
    return Preset(
        f"NaturalQuestions, 20 documents {about}", "nq", metrics, 100, ("\n",), rate=(rate,), candidates=AWARE
    )


_HALF, _THIRD, _QUARTER = 1 / 2, 1 / 3, 1 / 4
_STEPS = {
    "gsm8k-1shot": _gsm8k("1-shot", 446, 79.08),
    "gsm8k-half-shot": _gsm8k("half-shot", 171, 77.41),
    "gsm8k-quarter-shot": _gsm8k("quarter-shot", 117, 77.33),
    "bbh-1shot": _bbh("1-shot", 288, 70.11),
    "bbh-half-shot": _bbh("half-shot", 171, 61.60),
    "bbh-quarter-shot": _bbh("quarter-shot", 110, 56.85),
}
PRESETS: Mapping[str, Preset] = {
    **_STEPS,
    "sharegpt-2x": _sharegpt("at a half", rate=(_HALF,)),
    "sharegpt-3x": _sharegpt("at a third", rate=(_THIRD,)),
    "sharegpt-350": _sharegpt("within 350 tokens", tokens=(350,)),
    "sharegpt-175": _sharegpt("within 175 tokens", tokens=(175,)),
    "arxiv-2x": _arxiv("at a half", rate=(_HALF,)),
    "arxiv-3x": _arxiv("at a third", rate=(_THIRD,)),
    "arxiv-350": _arxiv("within 350 tokens", tokens=(350,)),
    "arxiv-175": _arxiv("within 175 tokens", tokens=(175,)),
    "nq-2x": _nq("at a half", _HALF),
    "nq-4x": _nq("at a quarter", _QUARTER),
    "ablations": Preset(
        "the paper's recipe on GSM8K at the 1-shot constraint, with one thing changed at a time",
        "gsm8k",
        ("exact_number",),
        _STEPS["gsm8k-1shot"].max_tokens,
        _STEPS["gsm8k-1shot"].stop,
        tokens=_STEPS["gsm8k-1shot"].tokens,
        candidates=ABLATIONS,
        published=_STEPS["gsm8k-1shot"].published,
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name. ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"preset = {name!r}: there is none of this name; there are {', '.join(PRESETS)}")
    return PRESETS[name]
