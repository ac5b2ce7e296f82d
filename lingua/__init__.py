"""Lingua shortens prompts: LLMLingua (arXiv 2310.05736) and its successors, as a library."""

from lingua.assemble import cut
from lingua.compressor import Compressor, WordLabel
from lingua.config import CompressionConfig
from lingua.errors import ConfigError, LinguaError, ModelError, PromptError
from lingua.methods.recovery import recover
from lingua.prompt import CompressedPrompt, Outcome, Prompt, Rejected, Span
from lingua.structured.streams import CompressedValue

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
    "cut",
    "recover",
]
