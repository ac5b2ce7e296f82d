"""The settings of the papers' tables as plain data: `--preset gsm8k-1shot` and the like, and the ablations.

Sizes are those of LLMLingua (arXiv 2310.05736, tables 1, 2 and 5) and LongLLMLingua (arXiv 2310.06839, table 1), in
tokens of the context in GPT-3.5's tokenizer: what the prompts of the paper's own run came to under each constraint
(eight demonstrations of GSM8K are 2,366 there). Ablations that a setting cannot express are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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


def _generated(max_tokens: int, *stop: str, candidates: Mapping[str, Settings] = AGNOSTIC, **size: float) -> Settings:
    """The settings of a table whose target writes at most `max_tokens`, until one of the `stop` strings."""
    asked = {"ask": ("generate",), "max_tokens": max_tokens, "stop": stop, "tokenizer": "cl100k_base"}
    return {"candidates": dict(candidates), **asked, **{name: (value,) for name, value in size.items()}}


_gsm8k = partial(_generated, 400, "\nQuestion:", "\n\n\n")
_bbh = partial(_generated, 512, "\nQ:", "\n\n\n")
_nq = partial(_generated, 100, "\n", candidates=AWARE)
_TEXTS = {"sharegpt": partial(_generated, 512, "\nUser:"), "arxiv": partial(_generated, 512, "\n\n\n")}
PRESETS: Mapping[str, Settings] = {
    "gsm8k-1shot": _gsm8k(tokens=446),
    "gsm8k-half-shot": _gsm8k(tokens=171),
    "gsm8k-quarter-shot": _gsm8k(tokens=117),
    "bbh-1shot": _bbh(tokens=288),
    "bbh-half-shot": _bbh(tokens=171),
    "bbh-quarter-shot": _bbh(tokens=110),
    **{f"{name}-{times}x": make(rate=1 / times) for name, make in _TEXTS.items() for times in (2, 3)},
    **{f"{name}-{size}": make(tokens=size) for name, make in _TEXTS.items() for size in (350, 175)},
    **{f"nq-{times}x": _nq(rate=1 / times) for times in (2, 4)},
    "ablations": _gsm8k(tokens=446, candidates=ABLATIONS),
}


def preset(name: str) -> Settings:
    """The settings that the preset of this name stands for. ConfigError when there is none."""
    if name not in PRESETS:
        raise ConfigError(f"preset = {name!r}: there is none of this name; there are {', '.join(PRESETS)}")
    return PRESETS[name]
