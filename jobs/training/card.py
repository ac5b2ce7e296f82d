"""The card of an aligned model, in Markdown: what it came from, what it learned from, and what that did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.training.align_settings import AlignConfig

ROWS = (
    ("perplexity", "perplexity of the target's text", "{:.2f}"),
    ("bits_per_byte", "bits per byte of it", "{:.3f}"),
    ("agreement", "rank agreement of surprisal with the target's", "{:.3f}"),
)


def table(result: dict[str, Any]) -> str:
    """Before and after, as a Markdown table."""
    lines = ["| on held-out rows | before | after |", "|---|---|---|"]
    for key, title, form in ROWS:
        values = [result[when][key] for when in ("before", "after")]
        shown = ["not measured" if value is None else form.format(value) for value in values]
        lines.append(f"| {title} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)


def card(config: AlignConfig, result: dict[str, Any]) -> str:
    """The README.md of the model directory. Inputs are named by digest: their paths are nobody's business."""
    model, target = _called(config.model), _called(config.target or "given with the rows")
    after, losses = result["after"], result["losses"]
    shown = {**config.identity(), "model": model, "target": config.target and target}
    settings = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [prompt-compression, distribution-alignment]
---

# {model}, aligned

A small language model whose surprisal decides what a prompt can do without, trained on the text of a target model
(distribution alignment, arXiv 2310.05736, section 4.3). Made by `python -m jobs.align` of Lingua; use it with a method
that asks a model: `python -m jobs.compress --method llmlingua --model DIRECTORY`. Not meant for writing text. The
licences of the model it came from and of the target's text hold on.

- from: `{model}` (digest `{result["model_digest"]}`)
- target: `{target}`{f" (digest `{result['target_digest']}`)" if result["target_digest"] else ""}
- learned from {result["rows"]:,} rows ({result["tokens"]:,} tokens, {result["response_tokens"]:,} of them of responses;
  digest `{result["train_digest"]}`; {result["skipped_rows"]:,} more were too long), in {len(losses):,} steps
- measured on {after["rows"]:,} held-out rows ({after["tokens"]:,} tokens; digest `{result["held_out_digest"]}`)

{table(result)}
{_explained(after["compared"])}

## Settings

```yaml
{settings}```
"""


def _explained(compared: int) -> str:
    if not compared:
        return ""
    return f"""
Agreement is Spearman's rank correlation between stretches of characters that both tokenizers can be cut into, averaged
over {compared:,} responses.
"""


def _called(name: str) -> str:
    """A model's name; of a directory or a file the last part: where it lay is nobody's business."""
    return Path(name).name if Path(name).is_absolute() else name
