"""What ranks the context strings of a prompt: small objects behind one protocol, by the name that `rank_method` takes.

Rankers that call paid services are left out.
"""

from __future__ import annotations

from lingua.config import CompressionConfig
from lingua.ranking.bm25 import bm25
from lingua.ranking.causal import OwnSurprisal, QuestionLikelihood
from lingua.ranking.protocol import Computed, Ranker

__all__ = ["Computed", "OwnSurprisal", "QuestionLikelihood", "Ranker", "bm25", "load_ranker"]


def load_ranker(config: CompressionConfig, device: str = "auto", trust_remote_code: bool = False) -> Ranker:
    """The ranker that the settings name. Raises ModelError when its model cannot be loaded."""
    if config.rank_method == "longllmlingua":
        return QuestionLikelihood(config.condition_in_question)
    if config.rank_method == "llmlingua":
        return OwnSurprisal()
    if config.rank_method == "bm25":
        return Computed(bm25)
    from lingua.models.relevance import cross_encoder, embedder

    load = embedder if config.rank_method == "embedding" else cross_encoder
    return Computed(load(config.rank_model, device, trust_remote_code))
