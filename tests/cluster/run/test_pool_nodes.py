"""Machines that leave and join while a job runs, on a real Ray cluster of several raylets."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_a_lost_node_is_survived_told_from_poison_and_a_new_one_is_used(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    command = [sys.executable, "-m", "tests.cluster.lose_a_node", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=140)
    assert ended.returncode == 0, ended.stderr
    shards, failures, workers = json.loads(ended.stdout.splitlines()[-1])
    assert shards == 10
    assert failures == {"node_lost": 1}
    assert workers == 3
