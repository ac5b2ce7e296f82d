"""Lingua makes prompts short: LLMLingua (arXiv 2310.05736) and its successors, as a library."""

from lingua.compressor import Compressor
from lingua.config import CompressionConfig
from lingua.errors import ConfigError, LinguaError, ModelError, PromptError
from lingua.labels import WordLabel
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected, Span
from lingua.recover import recover
from lingua.structure.streaming import CompressedValue

__all__ = [
    "CompressedPrompt",
    "CompressedValue",
    "CompressionConfig",
    "Compressor",
    "ConfigError",
    "LinguaError",
    "ModelError",
    "Outcome",
    "Prompt",
    "PromptError",
    "Rejected",
    "Span",
    "WordLabel",
    "recover",
]
