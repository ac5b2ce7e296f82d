"""`EvalConfig`: every setting of an evaluation, frozen and validated before anything loads.

A preset's settings (`--preset gsm8k-1shot`) count where none are given: those of a paper's table, or its ablations, in
`presets.yaml`.

Candidates and targets as users write them are in `specs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from cluster.command import Command
from cluster.config import Output
from cluster.placement import Placement
from jobs.evaluation.specs import ALWAYS, Candidate, TargetSpec, parse_candidate, parse_target, require_distinct
from lingua.errors import ConfigError
from lingua.shared import Many, Strings

PRESETS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text("utf-8"))
del PRESETS["_shared"]
DEFAULT_CANDIDATES = ("default", "rarity", "lead", "truncate", "random")
_SIZES = ("rate", "tokens")
_COMMON = ("data", "output", "limit", "candidates", "rate", "tokens", "preset", "model", "targets", "workers")
_GROUPS = {
    "what is read and written": ("data", "output", "limit", "offset", "seed", "strings"),
    "what is compared": (
        *("preset", "candidates", "rate", "tokens", "match_peer"),
        *("model", "device", "dtype", "tokenizer"),
    ),
    "who is asked": ("targets", "ask", "max_tokens", "stop"),
    "cluster": ("chunk", "workers", "gpus_per_worker", "cpus_per_worker", "gpu_memory"),
    "failures": ("timeout", "storage_options"),
    "the peer": ("peer_python", "peer_path"),
}
_EXAMPLES = """\
examples:
  # our defaults and four baselines at 35% of the context's tokens, read by gemma
  python -m jobs.evaluate --data squad=squad.jsonl --target gemma3-270m --output eval --limit 50

  # against the public library, at exactly the size that it reaches
  python -m jobs.evaluate --data nq=nq.jsonl --target gemma3-270m --output eval-peer --match-peer \\
      --candidate peer --candidate 'sentence: unit=sentence aggregate=mean' --candidate lead --rate 0.5 --rate 0.25

  # no model is asked: what is left of answers, evidence, numbers and names
  python -m jobs.evaluate --data nq=nq.jsonl --output kept --rate 0.35

candidates are written 'NAME: [BASE] key=value …' with any setting of jobs.compress; these names need nothing more:
  default, paper (its recipe), aware (question-aware), selective (Selective-Context); without a model: random (words),
  truncate, lead (the beginning of each string), rarity (rare words); peer and peer-aware (the public llmlingua, in its
  own environment: make peer); sentences (whole ones, those nearest to the question by an embedding, or as
  rank_method=reranker:MODEL or bm25 says). The whole context ('full') and none ('nothing') are always there.
  Question and instruction are never cut: a rate is the share of the context's tokens that may stay.

targets are models in the process (an alias, a directory, a hub id; 'NAME: model=… device=cuda dtype=bfloat16') or
endpoints ('NAME: url=http://localhost:8000/v1 model=… mode=chat', the key from OPENAI_API_KEY).

a preset (--preset) is the settings of a table of the papers; bring its data:
  python -m jobs.evaluate --preset gsm8k-1shot --data gsm8k=rows.jsonl --output out --target 'gpt: url=… model=…'

in a YAML file the same: data: {squad: squad.jsonl}, candidates: {sentence: {unit: sentence}, peer: }, targets: […],
rate: [0.5, 0.25], …; flags override the file. The same command again goes on with what is missing.
"""

_ONE = BeforeValidator(lambda value: (value,) if isinstance(value, float) else value)
Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], _ONE, Many]
Sizes = Annotated[tuple[Annotated[int, Field(ge=2)], ...], Many]


class EvalConfig(Placement):
    """All settings. Unknown or invalid ones raise ConfigError, naming the setting."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    command: ClassVar[Command] = Command(
        "jobs.evaluate",
        "--data NAME=FILE --output DIRECTORY [any setting below]",
        "Measure what compressed prompts are still good for, on Ray.",
        _EXAMPLES,
        former={
            "max_attempts": "a unit is tried three times",
            "batch_tokens": "it is chosen for the device; gpu_memory bounds it",
            "address": "name the Ray cluster in the variable RAY_ADDRESS",
        },
        common=_COMMON,
        groups=_GROUPS,
        flags={"candidates": "candidate", "targets": "target"},
        alternatives=_SIZES,
    )

    data: dict[str, str] = Field(min_length=1, description="NAME=FILE: rows in the unified form, as JSON Lines")
    output: Output = Field(description="directory to write: a path, s3://, gs:// or abfs://")
    limit: int | None = Field(None, ge=1, description="rows per set")
    offset: int = Field(0, ge=0, description="rows of each set to pass over first")
    seed: int | None = Field(None, ge=0, description="shuffle the rows of each set first (default: as they stand)")

    strings: int | None = Field(None, ge=1, description="strings of a row at most, with its evidence (default: all)")

    preset: str | None = Field(None, description=f"settings of a paper's table: {', '.join(PRESETS)}")
    candidates: tuple[Candidate, ...] = Field(
        DEFAULT_CANDIDATES,
        validate_default=True,
        min_length=1,
        description=f"'NAME: [BASE] key=value …' (default: {', '.join(DEFAULT_CANDIDATES)})",
    )
    rate: Shares = Field((), description="share of the context's tokens to keep (default: 0.35)")
    tokens: Sizes = Field((), description="number of the context's tokens to keep, beside rates")
    match_peer: bool = Field(False, description="all others keep, row by row, exactly as much as the peer kept")
    model: str = Field("smollm2-135m", min_length=1, description="the compressor, also the peer's")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field("float32", description="of both")
    tokenizer: str = Field("model", min_length=1, description="what tokens are counted in; 'model': the compressor's")

    targets: tuple[TargetSpec, ...] = Field((), description="models that are asked (none: what is left is measured)")
    ask: Annotated[tuple[Literal["nll", "generate"], ...], Many] = Field(
        (), description="what of: nll of the gold answer, generate an answer (default: nll where it can be had)"
    )
    max_tokens: int = Field(64, ge=1, description="tokens to generate at most")
    stop: Strings = Field(("\n\n",), description="strings that end what is generated (default: a blank line)")

    chunk: int = Field(10, ge=1, description="rows per unit of work, which is committed whole")
    timeout: float = Field(1800, gt=0, description="seconds without progress until a worker is replaced")
    storage_options: dict[str, Any] = Field({}, repr=False, description="for fsspec, as JSON; flat, or by protocol")
    peer_python: Path = Field(Path(".venv-reference/bin/python"), description="the peer's interpreter")
    peer_path: Path | None = Field(None, description="folder with the peer's packages, before the interpreter's own")

    @property
    def sizes(self) -> tuple[float, ...]:
        """What is asked for: shares, and above 1 numbers of tokens."""
        return tuple(dict.fromkeys((*self.rate, *map(float, self.tokens)))) or (0.35,)

    @property
    def all_candidates(self) -> tuple[Candidate, ...]:
        """The references first."""
        return (*ALWAYS, *self.candidates)

    @property
    def peers(self) -> list[str]:
        return [one.name for one in self.candidates if one.kind == "peer"]

    @model_validator(mode="before")
    @classmethod
    def _of_a_table(cls, settings: dict[str, Any]) -> dict[str, Any]:
        if (name := settings.get("preset")) is None:
            return settings
        if (known := PRESETS.get(str(name))) is None:
            raise ConfigError(f"preset = {str(name)!r}: there is none of this name; there are {', '.join(PRESETS)}")
        sized = settings.keys() & set(_SIZES)
        return {**{name: value for name, value in known.items() if not (sized and name in _SIZES)}, **settings}

    @field_validator("data", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return value
        entries = value if isinstance(value, (list, tuple)) else [value]
        pairs = [str(item).partition("=") for item in entries]
        if bad := next((name for name, equals, _ in pairs if not equals), None):
            raise ValueError(f"write NAME=FILE, not {bad!r}")
        require_distinct("set", [name for name, _, _ in pairs])
        return {name: url for name, _, url in pairs}

    @field_validator("candidates", "targets", mode="before")
    @classmethod
    def _named(cls, value: object, info: ValidationInfo) -> object:
        """A list of what flags say, or a mapping from names to what they mean."""
        parse: Any = parse_candidate if info.field_name == "candidates" else parse_target
        entries = value if isinstance(value, (list, tuple)) else [value]
        items = value.items() if isinstance(value, Mapping) else ((None, entry) for entry in entries)
        found = [parse(entry, name) for name, entry in items]
        require_distinct(str(info.field_name).removesuffix("s"), [one.name for one in found])
        return tuple(found)

    @model_validator(mode="after")
    def _fits_together(self) -> EvalConfig:
        if self.match_peer and len(self.peers) != 1:
            raise ValueError(f"match_peer needs exactly one peer among the candidates, not {len(self.peers)}")
        for target in self.targets:
            self.require_gpu_for(str(target.settings.get("device", "auto")))
        if self.ask and not self.targets:
            raise ValueError("ask: nobody is asked; give --target")
        return self
