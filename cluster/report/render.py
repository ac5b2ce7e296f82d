"""`render`: a `Page` → HTML in one string, with its style and charts inside and everything from rows escaped.

Escaping is the template's (always on), and a name that is not given is an error. Text of rows is made fit to be shown:
control characters become their pictures (U+2400 …), as HTML has no NUL, and the marks that turn the direction of what
follows become their names, so that no row can rearrange the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster.output.records import counted
from cluster.output.summary import BINS, Excerpt
from cluster.report.page import Page, name_of, unsampled
from lingua.methods import METHODS

_SHOWN_AS_THEY_ARE = "\n\t"
_SIGNS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in _SHOWN_AS_THEY_ARE} | {127: "␡"}
_TURNS = {code: f"⟨U+{code:04X}⟩" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_VISIBLE = _SIGNS | _TURNS | dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")
SECTIONS = (
    ("totals", "Totals"),
    ("samples", "Samples"),
    ("cost", "Cost saved"),
    ("rates", "Rates"),
    ("fidelity", "Fidelity"),
    ("throughput", "Throughput"),
    ("sources", "Sources"),
    ("rows", "Rows"),
    ("rejects", "Rejects"),
    ("run", "How it was run"),
)
STATUSES = {
    "compressed": ("compressed", "shortened to its budget"),
    "passthrough": ("passed through", "was within its budget already"),
    "kept": ("kept whole", "nothing in it may be cut, or it has no text"),
    "over_budget": ("over budget", "what may not be cut exceeds the budget; only that was kept"),
    "relaxed": ("relaxed", "at its budget it kept less than min_fidelity: compressed less, or not at all"),
    "rejected": ("rejected", "could not be compressed; set aside with the reason"),
}


def visible(text: object) -> str:
    """The text with signs for what cannot be seen; lone surrogates become U+FFFD."""
    return str(text).translate(_VISIBLE)


def stretches(piece: Excerpt) -> Iterator[tuple[str, bool]]:
    """The text of a piece in stretches, each with whether it was kept; one stretch when that is not known."""
    position = 0
    for start, end in piece.kept or ():
        if start > position:
            yield visible(piece.text[position:start]), False
        yield from _marked(piece.text[start:end])
        position = max(position, end)
    if position < len(piece.text):
        yield visible(piece.text[position:]), False


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """A kept stretch; the white space before it is not marked, which would look odd at the end of a line."""
    word = text.lstrip()
    if len(word) < len(text):
        yield visible(text[: len(text) - len(word)]), False
    if word:
        yield visible(word), True


def environment(folders: Sequence[Path]) -> Environment:
    """Where the templates of these folders are found; the filter `visible` shows what cannot be seen."""
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(folders),
    )
    made.filters.update(visible=visible)
    return made


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars with heights in percent of the tallest, `top`."""

    bars: Sequence[float]

    @property
    def top(self) -> float:
        """The tallest bar."""
        return max(self.bars, default=0.0)

    @property
    def heights(self) -> list[float]:
        """Of each bar; what is not nothing is seen."""
        return [round(max(100 * bar / self.top, 0.8), 2) if bar else 0 for bar in self.bars]


def render(page: Page) -> str:
    """The page as HTML."""
    last_run = page.statistics.get("last_run", {})
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            name=name_of(page.output),
            planned=len(page.plan.shards),
            sections=SECTIONS,
            statuses=[(title, getattr(page.total, name), meaning) for name, (title, meaning) in STATUSES.items()],
            rates=Bars(page.merged.rates),
            rate_rows=list(_bin_rows(page.merged.rates)),
            fidelities=Bars(page.merged.fidelities),
            fidelity_rows=list(_bin_rows(page.merged.fidelities)),
            unsampled=unsampled(_setting(page, "method"), _setting(page, "fidelity_sample")),
            speed=Bars(page.throughput.bars),
            mean_speed=page.total.computed_tokens / page.throughput.seconds if page.throughput.seconds else 0.0,
            bar_seconds=page.throughput.seconds / max(1, len(page.throughput.bars)),
            has_ids=page.plan.columns.mapped.id is not None,
            method=_setting(page, "method"),
            asks_model=_needs(page) in ("causal", "encoder"),
            target=_target(page),
            counted_in=page.plan.identity.settings.get("target_tokenizer", "model"),
            last_run=last_run,
            failures=last_run.get("failures", {}),
            given_up=last_run.get("given_up", {}),
            settings=list(_settings(page)),
        )
    )


def _environment() -> Environment:
    made = environment([Path(__file__).parent])
    made.filters.update(stretches=stretches, count=_count, rate=_rate, seconds=_seconds, duration=duration)
    made.filters.update(
        counted=counted, money=_money, moment=_moment, status=lambda name: STATUSES.get(name, (name,))[0]
    )
    return made


def _target(page: Page) -> str:
    settings = page.plan.identity.settings
    if settings.get("target_token") is not None:
        return f"at most {settings['target_token']:,} tokens per prompt"
    return f"asked rate {settings['rate']:g}" if settings.get("rate") is not None else ""


def _bin_rows(bins: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    for index, rows in enumerate(bins):
        yield f"{index / BINS:.2f}", f"{(index + 1) / BINS:.2f}", rows


def _needs(page: Page) -> str:
    """What kind of model the run asked; nothing where no setting tells the method."""
    method = METHODS.get(str(_setting(page, "method")))
    return method.needs if method else "nothing"


def _setting(page: Page, name: str) -> Any:
    """A setting as the last run was given it, else as the run that planned the output was."""
    return {**page.plan.about.get("run", {}), **page.statistics.get("settings", {})}.get(name)


def _settings(page: Page) -> Iterator[tuple[str, str]]:
    """What the last run was given; of an unfinished first run, what the plan fixed."""
    chosen = page.statistics.get("settings") or page.plan.identity.settings
    for key, value in chosen.items():
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield "model digest", page.plan.identity.model_digest
    for package, version in page.statistics.get("versions", {}).items():
        yield f"version of {package}", str(version)


def _count(number: int) -> str:
    return f"{int(number):,}"


def _rate(share: float | None) -> str:
    """A share, or a dash where there was nothing to have a share of."""
    return "–" if share is None else f"{share:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f}"


def _money(amount: float, smallest: float) -> str:
    """With as many decimals as the smallest amount beside it needs."""
    return f"{amount:,.2f}" if smallest >= 0.1 or smallest == 0 else f"{amount:,.6f}"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M %Z")


def duration(seconds: float) -> str:
    """Seconds in words that fit their size: ``4.2 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60:02} min"
