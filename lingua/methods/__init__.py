"""The published methods, one file each, by the name that `method:` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lingua.draft import Draft
from lingua.methods.baselines import BASELINES
from lingua.methods.evidence import evidence
from lingua.methods.llmlingua import llmlingua
from lingua.methods.llmlingua2 import llmlingua2
from lingua.methods.longllmlingua import longllmlingua
from lingua.methods.selective import selective
from lingua.score import Program

Needs = Literal["causal", "encoder", "nothing"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method's program, and what answers its scores: a causal model, an encoder, or nothing (it asks for none)."""

    program: Callable[[Draft], Program[None]]
    needs: Needs


METHODS: dict[str, Method] = {
    "evidence": Method(evidence, "nothing"),
    "llmlingua": Method(llmlingua, "causal"),
    "llmlingua2": Method(llmlingua2, "encoder"),
    "longllmlingua": Method(longllmlingua, "causal"),
    "selective": Method(selective, "causal"),
    **{name: Method(program, "nothing") for name, program in BASELINES.items()},
}
