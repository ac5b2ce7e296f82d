"""`Plan`: what an output will hold, fixed before the first row: settings, model, inputs, columns, shards.

It is stored once beside the output (`_plan.json`). A later start finds it and goes on only if settings, model and
inputs are still the same, and otherwise says what differs; it then needs neither to read the inputs nor to cut them.
What an output is asked for beyond that, files that are new or rejected rows once more, makes a plan with more shards
behind those that it had: its next generation. Credentials are never part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from cluster.config import ALGORITHM_KEY, OUTPUT_SETTINGS, JobConfig, default_of
from cluster.errors import AbortRun, PlanConflict
from cluster.input.columns import Columns
from cluster.input.shards import ATTEMPT, NAME, STORED, Count, Shard, Source, parsed

FORMAT = 2
LAYOUT_SETTINGS = {*OUTPUT_SETTINGS} - {"dtype"}
"""Settings that decide which rows there are and how they are written, not what becomes of one."""
_Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
REMEDY = "use the same settings and inputs, or another output"


@dataclass(frozen=True)
class Identity:
    """What decides the content of an output, beside its inputs: settings by name, and the model by digest."""

    settings: Mapping[str, Any]
    model: str
    model_digest: str

    @classmethod
    def of(cls, config: JobConfig, model_digest: str) -> Identity:
        return cls(config.identity_settings(), config.model, model_digest)

    def differences(self, now: Identity, ignored: Collection[str] = ()) -> Iterator[str]:
        """In words, one for each setting that decides and is not the same in `now`; those `ignored` may differ.

        With any but `LAYOUT_SETTINGS`, no fingerprint is equal.
        """
        before, after = (one.get(ALGORITHM_KEY, "not noted") for one in (self.settings, now.settings))
        if before != after:  # then nothing else matters, and settings may have other names
            yield f"by a version that gives other results ({ALGORITHM_KEY} {before}, now {after})"
            return
        for name in sorted({*self.settings, *now.settings} - {*ignored}):
            before, after = (one.get(name, default_of(name, one)) for one in (self.settings, now.settings))
            if before != after:
                yield f"{name} was {json.dumps(before)}, now {json.dumps(after)}"
        if self.model_digest != now.model_digest:
            yield f"model was {self.model} ({self.model_digest[:12]}), now {now.model} ({now.model_digest[:12]})"

    def fingerprint(self, content: Sequence[Any]) -> str:
        """Digest of a row's content, of the settings that compress it and of the model; equal on every machine."""
        settings = {name: value for name, value in self.settings.items() if name not in LAYOUT_SETTINGS}
        return _digest([settings, self.model_digest, *content])[:32]

    def digest(self) -> str:
        return _digest(asdict(self))[:16]


@dataclass(frozen=True)
class Plan:
    """Everything that a worker or an audit needs to know of a run."""

    identity: Identity
    columns: Columns
    output_format: str
    sources: tuple[Source, ...]
    shards: tuple[Shard, ...]
    about: Mapping[str, Any] = field(default_factory=dict)  # for people only
    # in words, what was added to it and when: one line for each generation after the first
    history: tuple[str, ...] = ()

    @property
    def generation(self) -> int:
        """1 for a plan as it was made, one more for each time that it was extended."""
        return len(self.history) + 1

    def extends(self, other: Plan) -> bool:
        """Whether it is the next generation of another."""
        return (self.run, self.generation) == (other.run, other.generation + 1)

    def extended(self, why: str, sources: Iterable[Source], shards: Iterable[Shard]) -> Plan:
        """The next generation, with these sources and shards behind those that are there."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(
            self,
            sources=(*self.sources, *sources),
            shards=(*self.shards, *shards),
            history=(*self.history, f"{moment}: {why}"),
        )

    @property
    def retried(self) -> frozenset[str]:
        """Names of the shards whose rejected rows are tried again."""
        return frozenset(shard.retried for shard in self.shards if shard.retried)

    @property
    def run(self) -> str:
        """What tells it from the plans that replace it, with or without its sources and shards."""
        return f"{self.identity.digest()} {json.dumps(dict(self.about), sort_keys=True)}"

    def fingerprint(self, values: Mapping[str, Any]) -> str:
        """Digest of a row (`Identity.fingerprint`). PromptError when there is nothing to compress in it."""
        return self.identity.fingerprint(self.columns.content(values))

    def part_name(self, shard: Shard) -> str:
        return f"{shard.name}.{self.output_format}"

    def require_same(self, identity: Identity, sources: Sequence[Source], where: str) -> None:
        """PlanConflict, naming each difference, unless a run with these would go on with this plan."""
        grown = self.generation > 1
        if found := [*self.identity.differences(identity), *_source_differences(self.sources, sources, grown)]:
            shown = "; ".join(found[:10]) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
            raise PlanConflict(f"{where} was begun otherwise: {shown}; {REMEDY}")

    def to_bytes(self) -> bytes:
        """The plan as JSON, with each shard as a list: name, index of its source, and its numbers."""
        index = {source.path: position for position, source in enumerate(self.sources)}
        content = {
            "format": FORMAT,
            "about": dict(self.about),
            "settings": dict(self.identity.settings),
            "model": self.identity.model,
            "model_digest": self.identity.model_digest,
            "output_format": self.output_format,
            "columns": self.columns.to_json(),
            "sources": [asdict(source) for source in self.sources],
            "shards": [[s.name, index[s.source.path], s.start, s.end, s.first_row, s.rows] for s in self.shards],
        }
        if self.history:
            retries = {shard.name: shard.retries for shard in self.shards if shard.retries}
            content |= {"history": list(self.history), "retries": retries}
        return json.dumps({**content, "digest": _digest(content)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Plan:
        """The inverse of `to_bytes`. PlanConflict when `data` is none of this format, AbortRun for another job's."""
        try:
            content = json.loads(data)
            if isinstance(content, dict) and content and "format" not in content:
                raise AbortRun(f"{where} is the plan of another job, whose output this is; choose another output")
            if content["format"] != FORMAT:
                raise PlanConflict(f"{where} has plan format {content['format']}, not {FORMAT}; {REMEDY}")
            if content.pop("digest") != _digest(content):
                raise ValueError("it is not what was written")
            return cls._from_stored(parsed(_Stored, data, "a plan"))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError) as error:
            raise PlanConflict(f"{where} is damaged ({type(error).__name__}: {error}); use another output") from None

    @classmethod
    def _from_stored(cls, stored: _Stored) -> Plan:
        shards = tuple(
            Shard(name, stored.sources[index], start, end, first, rows, stored.retries.get(name))
            for name, index, start, end, first, rows in stored.shards
        )
        if len({shard.name for shard in shards}) < len(shards):
            raise ValueError("two shards have one name")
        if backwards := next((shard for shard in shards if shard.start > shard.end), None):
            raise ValueError(f"{backwards.name} ends before it begins")
        if not isinstance(stored.about.get("run", {}), dict):
            raise ValueError("about.run is no object")
        return cls(
            Identity(stored.settings, stored.model, stored.model_digest),
            replace(stored.columns, objects=stored.output_format == "jsonl"),  # once it was not stored
            stored.output_format,
            stored.sources,
            shards,
            stored.about,
            stored.history,
        )


@dataclass(frozen=True)
class _Stored:
    """The content of `_plan.json`, as far as its types go: every part has a name of its own inside the output."""

    __pydantic_config__ = STORED

    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    model: str
    model_digest: str
    output_format: Literal["parquet", "jsonl"]
    columns: Columns
    sources: tuple[Source, ...]
    shards: tuple[tuple[_Name, Count, Count, Count, Count, Count | None], ...]
    history: tuple[str, ...] = ()
    retries: Mapping[str, Annotated[str, Field(pattern=f"^{ATTEMPT.pattern}$")]] = field(default_factory=dict)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _source_differences(before: Sequence[Source], now: Sequence[Source], grown: bool) -> Iterator[str]:
    """Those of the sources; a plan that was extended has them in the order in which they came."""
    known, found = ({source.path: source for source in sources} for sources in (before, now))
    for path in {**known, **found}:
        if path not in found:
            yield f"input {path} is not among the inputs any more"
        elif path not in known:
            yield f"input {path} is new (--resume grow takes it in)"
        elif known[path] != found[path]:
            old, new = known[path], found[path]
            yield f"input {path} had {old.size} bytes ({old.version}), now {new.size} ({new.version})"
    if not grown and list(known) != list(found) and known.keys() == found.keys():
        yield "the order of the inputs changed"
