"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

from mf_core.sources.demo import fetch_ml100k


@pytest.fixture(scope="session")
def ml100k() -> Path:
    """Folder with u.data of MovieLens 100K: MF_TEST_ML100K, or the demo's cached download."""
    if folder := os.environ.get("MF_TEST_ML100K"):
        return Path(folder)

    cache = os.environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain"
    return fetch_ml100k(Path(cache).expanduser())
