"""The page in a real browser, where one is installed: never wider than the window, whatever things are called."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from cluster.report.page import gather, render
from tests.cluster.report.corpus import finished

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MEASURE = """<!doctype html><iframe src="{page}" style="width: {width}px; height: 900px"></iframe><script>
onload = () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement;
  document.title = JSON.stringify([root.clientWidth, root.scrollWidth]);
}};
</script>"""


def widths(page: Path, width: int) -> tuple[int, int]:
    """Pixels that a window of `width` shows of a page, and those that the page takes."""
    frame = page.with_name("frame.html")
    frame.write_text(MEASURE.format(page=page.name, width=width))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    shown = subprocess.run(
        [*command, profile, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", shown.stdout.decode())
    assert title is not None, shown.stderr.decode()[-2000:]
    seen, taken = json.loads(unescape(title[1]))
    return seen, taken


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_page_never_scrolls_sideways(tmp_path: Path) -> None:
    folder = tmp_path / ("folder-without-a-space-" * 10)
    folder.mkdir()
    names = ["x" * 300, "id-" + "0123456789-" * 20, "ש" * 300, "<b>" * 90]
    texts = ["y" * 3000, *(f"document {number} says a few words" for number in range(20)), None]
    ledger = finished(folder, texts, ids=names * 6, report_samples=20)
    page = tmp_path / "report.html"
    page.write_text(render(gather(ledger, ["m" * 200 + "=1"])))
    for width in (390, 1280):
        seen, taken = widths(page, width)
        assert taken <= seen <= width
