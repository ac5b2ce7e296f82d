"""For the benchmark's tests: a stand-in for the public library that the real `peer_main` runs."""

from __future__ import annotations

from pathlib import Path

STAND_IN = '''
import sys
from types import SimpleNamespace

import torch


class PromptCompressor:
    """Keeps every second word; its "model" sees each word once. Fails on cue."""

    def __init__(self, model, device_map, model_config, use_llmlingua2):
        if not model:
            raise ValueError("no model was given")
        print("libraries print to standard output")
        self.model = Doubler(model_config["torch_dtype"])
        self.llmlingua2 = use_llmlingua2

    def compress_prompt(self, context, instruction="", question="", rate=1.0):
        words = " ".join([instruction, *context, question]).split()
        if "please-fail" in words:
            raise IndexError("failed on cue")
        if "please-die" in words:
            sys.exit("Traceback: of code\\nout of memory, say")
        output = self.model(torch.zeros(1, len(words), dtype=torch.long))
        if self.llmlingua2:
            output.logits.numpy()
        kept = words[::2] if rate < 1 else words
        return {"compressed_prompt": " ".join(kept), "origin_tokens": len(words), "compressed_tokens": len(kept)}


class Doubler(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, input_ids):
        return SimpleNamespace(logits=input_ids.to(self.dtype) * 2)
'''


def stand_in(folder: Path) -> Path:
    """A folder of packages with a `llmlingua` that needs no model."""
    package = folder / "llmlingua"
    package.mkdir()
    (package / "__init__.py").write_text(STAND_IN, encoding="utf-8")
    return folder
