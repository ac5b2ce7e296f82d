"""Packages that carry a model: their files are used, and importing them would ask for more than is installed."""

from __future__ import annotations

import importlib.util

import pytest


def require(*modules: str) -> None:
    """Skip the test where one of them is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"package {module} is not installed")
