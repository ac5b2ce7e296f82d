"""The settings reference equals what the configuration says, and says it in a form that can be typed."""

from __future__ import annotations

from cluster.config import JobConfig
from tests.docs.settings_page import PAGE, default_of, form_of, page


def test_the_page_in_the_repository_is_the_generated_one() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(), "run: python -m tests.docs.settings_page"


def test_every_setting_has_one_row_with_a_meaning() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert sorted(row[0].split("`")[1] for row in rows) == sorted(JobConfig.settings())
    assert all(len(row) == 4 and row[3].rstrip(" |") for row in rows)


def test_forms_and_defaults_are_what_one_would_type() -> None:
    known = JobConfig.settings()
    assert form_of(known["rate"]) == "number or list of numbers, > 0, ≤ 1"
    assert form_of(known["output_format"]) == "`parquet` or `jsonl`"
    assert form_of(known["force_tokens"]) == "list of texts"
    assert form_of(known["max_rejected"]) == "integer or number, ≥ 0"
    assert default_of(known["dry_run"]) == "off"
    assert default_of(known["output"]) == "required"
    config = JobConfig(input="a", output="b")
    assert default_of(known["lease_seconds"]) == f"`{config.lease_seconds:.0f}`"
