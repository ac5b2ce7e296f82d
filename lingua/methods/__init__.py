"""The published methods, one file each, by the name that `method:` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lingua.config import CompressionConfig
from lingua.draft import Draft
from lingua.methods.baselines import BASELINES
from lingua.methods.evidence import evidence
from lingua.methods.llmlingua import llmlingua
from lingua.methods.llmlingua2 import llmlingua2
from lingua.methods.longllmlingua import longllmlingua
from lingua.methods.selective import selective
from lingua.score import Program

Needs = Literal["causal", "encoder", "sentences", "nothing"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method's program, and what answers its scores: a causal model, an encoder, or nothing (it asks for none).

    `sentences`: an encoder of sentences, which is not the compressor's model and may be absent.
    """

    program: Callable[[Draft], Program[None]]
    needs: Needs


METHODS: dict[str, Method] = {
    "evidence": Method(evidence, "sentences"),
    "llmlingua": Method(llmlingua, "causal"),
    "llmlingua2": Method(llmlingua2, "encoder"),
    "longllmlingua": Method(longllmlingua, "causal"),
    "selective": Method(selective, "causal"),
    **{name: Method(program, "nothing") for name, program in BASELINES.items()},
}


def needs_of(config: CompressionConfig) -> Needs:
    """What answers a method's scores under these settings."""
    needs = METHODS[config.method].needs
    return "nothing" if needs == "sentences" and config.focus is None else needs
