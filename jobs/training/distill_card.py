"""The card of a distilled encoder: what it is, how to use it, what it was made of, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs.training.distill_settings import DistillConfig
from jobs.training.labels_teachers import teacher_digest

TEMPLATE = """\
---
library_name: transformers
pipeline_tag: token-classification
tags: [prompt-compression, llmlingua-2]
---
# An encoder that tells which words of a prompt to keep

Trained by `python -m jobs.distill`, as in LLMLingua-2 (arXiv 2403.12968). It gives every token a probability of being
kept; what is learnt is {learnt}.

```bash
python -m jobs.compress --method llmlingua2 --model THIS_DIRECTORY --rate {rate} --input corpus.jsonl --output out
```

| | |
|---|---|
| began as | {model} |
| teacher | {teacher} |
| trained on | {windows:,} windows, {tokens:,} tokens |
| dropped by the filters of aligned compressions | {dropped:,} of {chunks:,} chunks |
| loss at the end | {loss:.4f} nats a token |

Agreement with the teacher on {texts:,} held-out texts ({held_words:,} words, {kept:.0%} of them kept):
F1 {f1:.3f} (a student that guesses: {chance:.3f}), AUC {auc:.3f}, rank correlation {spearman:.3f}.

Settings:

```json
{settings}
```
"""
LEARNT = {
    "rank": "the rank of a word's score among all words, from 0 to 1",
    "kept": "whether a word is among the share that the teacher keeps",
    "scores": "the teacher's own score or label of a word",
}


def card(config: DistillConfig, result: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    found, losses = result["agreement"], result["losses"][-20:]
    return TEMPLATE.format(
        learnt=LEARNT[config.learnt],
        rate=config.rate,
        model=config.model,
        teacher=_teacher(config),
        loss=sum(losses) / len(losses),
        settings=json.dumps(config.identity(), indent=1, ensure_ascii=False),
        held_words=found["words"],
        **{key: result[key] for key in ("windows", "tokens", "dropped", "chunks")},
        **{key: found[key] for key in ("texts", "kept", "f1", "chance", "auc", "spearman")},
    )


def _teacher(config: DistillConfig) -> str:
    if config.teacher == "compressor":
        compression = config.compression
        return f"{config.teacher_model}, `method: {compression.method}`, digest `{teacher_digest(config)}`"
    return config.teacher_model if config.teacher == "endpoint" else f"`{config.teacher}`"
