"""The published methods, one file each, by the name that `method:` takes: a program, and the settings that it reads.

What stands in no method's settings is read by all (`SharedSettings`). A setting that is given and not read is an error,
and no part of what a result depends on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lingua.budget.draft import Draft
from lingua.engine.score import Needs, Program
from lingua.methods import baselines, evidence, llmlingua, llmlingua2, longllmlingua, selective
from lingua.models.source import ModelSource, resolve
from lingua.shared import MethodSettings, OnePassSettings, SharedSettings


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its program, which is given a draft and the method's own settings."""

    program: Callable[[Draft, Any], Program[None]]
    settings: type[MethodSettings]

    @property
    def needs(self) -> Needs:
        """What answers its scores by default; `sentences` is an encoder that is not the compressor's model."""
        return self.settings().needs


METHODS: dict[str, Method] = {
    "evidence": Method(evidence.evidence, evidence.EvidenceSettings),
    "llmlingua": Method(llmlingua.llmlingua, llmlingua.LLMLinguaSettings),
    "llmlingua2": Method(llmlingua2.llmlingua2, llmlingua2.LLMLingua2Settings),
    "longllmlingua": Method(longllmlingua.longllmlingua, longllmlingua.LongLLMLinguaSettings),
    "selective": Method(selective.selective, selective.SelectiveSettings),
    "random": Method(baselines.random, OnePassSettings),
    "truncate": Method(baselines.truncate, OnePassSettings),
    "lead": Method(baselines.lead, OnePassSettings),
    "rarity": Method(baselines.rarity, baselines.RaritySettings),
}


def computes(config: SharedSettings) -> bool:
    """Whether the compressor's own model is asked; otherwise only its tokenizer is."""
    return config.own.needs in ("causal", "encoder")


def scoring_model(source: ModelSource, config: SharedSettings) -> ModelSource:
    """The model that answers the method's scores: the compressor's own, or the encoder of sentences of its settings."""
    return resolve(config.own.second_model or "") if config.own.needs == "sentences" else source


def models_digest(source: ModelSource, config: SharedSettings) -> str:
    """Digest of all models that results depend on. Raises ModelError when one of them cannot be found.

    Of a model that is not asked only the tokenizer counts.
    """
    first = source.digest if computes(config) else source.tokenizer_digest
    second = config.own.second_model
    if second is None:
        return first
    reader = resolve(second)
    both = f"{first}\0{reader.digest}{reader.judge_digest}"
    return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()
