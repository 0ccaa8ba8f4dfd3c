"""Fixtures that every test may use, and which tests are slow."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from mf_core.sources.demo import fetch_ml100k
from tests.s3 import Door, client_variables, forget_clients, s3_server

# What fits models, starts Airflow's scheduler or its web application, or otherwise takes long.
# `make test-quick` leaves these out.
SLOW = (
    "tests/benchmarks/test_night.py*",
    "tests/benchmarks/test_publishing.py*",
    "tests/core/test_object_store.py*",
    "tests/core/test_search*",
    "tests/core/test_search_time.py*",
    "tests/core/test_solvers_*",
    "tests/core/test_train_process.py*",
    "tests/core/test_train_together.py*",
    "tests/dags/test_keys.py*",
    "tests/dags/test_metrics.py*",
    "tests/dags/test_retrain.py*",
    "tests/db/test_aimed_kills.py*",
    "tests/db/test_backup.py*",
    "tests/db/test_restore.py*",
    "tests/db/test_catalogues.py*",
    "tests/db/test_catalogues_upkeep.py*",
    "tests/db/test_cli.py*",
    "tests/db/test_damage.py*",
    "tests/db/test_documents.py*",
    "tests/db/test_found.py*",
    "tests/db/test_going_live.py*",
    "tests/db/test_ingest_growth.py*",
    "tests/db/test_ingest_keys.py*",
    "tests/db/test_locks.py*",
    "tests/db/test_migrations.py*",
    "tests/db/test_monitoring.py*",
    "tests/db/test_passwords.py*",
    "tests/db/test_object_store_night.py*",
    "tests/db/test_pipeline.py*",
    "tests/db/test_problems.py*",
    "tests/db/test_prune.py*",
    "tests/db/test_prune_kills.py*",
    "tests/db/test_publish.py*",
    "tests/db/test_retirement.py*",
    "tests/db/test_roles.py*",
    "tests/db/test_runs.py*",
    "tests/db/test_side_information.py*",
    "tests/db/test_stack_databases.py*",
    "tests/db/test_status.py*",
    "tests/db/test_tune.py*",
    "tests/db/test_tune_apply.py*",
    "tests/db/test_upgrade.py*",
    "tests/db/test_verification.py*",
    "tests/db/test_warm_start.py*",
    "tests/e2e/*",
    "tests/plugins/*",
)
# Python 3.11 measures coverage at a third more time. These tests take the longest in pytest's own
# process, and others run the same lines.
UNMEASURED = (
    "tests/core/test_solvers_bayes.py*",
    "tests/core/test_solvers_quality.py*",
)
# They wait for Airflow's scheduler half of the time, and take as long as all others together.
STACK = "tests/e2e"
ROOT = Path(__file__).parents[1]
# What needs a program that no Python package brings: `make test-browser`, `make test-systems`.
APART = ("browser", "systems")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests that need programs of the system, unless they are named."""
    if collection_path.parent != Path(__file__).parent or collection_path.name not in APART:
        return None
    named = any(f"tests/{collection_path.name}" in argument for argument in config.args)
    return None if named else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tests, and those without coverage."""
    for pattern in (*SLOW, *UNMEASURED):
        if not list(ROOT.glob(pattern.partition("::")[0])):
            raise pytest.UsageError(f"tests/conftest.py names {pattern}, but no such file is there")
    for item in items:
        if _is_one_of(item, SLOW):
            item.add_marker(pytest.mark.slow)
        if _is_one_of(item, UNMEASURED):
            item.add_marker(pytest.mark.no_cover)

    # Among workers of pytest-xdist, one begins with the stack's tests. The others begin with the
    # slow files, which leaves no long end.
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (_scope(item.nodeid) != STACK, not _is_one_of(item, SLOW)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand the tests to pytest-xdist's workers by scopes, in order of their collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    config.option.loadscopereorder = False
    return ByScope(config, log)


def _scope(nodeid: str) -> str:
    """Return the name of those that one worker runs: a test's file, or all that start a stack.

    So a file's fixtures are made once, and no two stacks of Airflow compete for time.
    """
    return STACK if nodeid.startswith(STACK) else nodeid.partition("::")[0]


def _is_one_of(item: pytest.Item, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(item.nodeid, pattern) for pattern in patterns)


@pytest.fixture(scope="session")
def ml100k() -> Path:
    """Folder with u.data of MovieLens 100K: MF_TEST_ML100K, or the demo's cached download."""
    if folder := os.environ.get("MF_TEST_ML100K"):
        return Path(folder)

    cache = os.environ.get("MF_CACHE_DIR") or "~/.cache/mf-retrain"
    return fetch_ml100k(Path(cache).expanduser())


@pytest.fixture(scope="session")
def s3_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """An S3 server that lives as long as the session."""
    with s3_server(tmp_path_factory.mktemp("s3")) as door:
        yield door


@pytest.fixture
def s3(s3_door: Door, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """The S3 server, which clients of this process and of its children find and may use."""
    for name, value in client_variables(s3_door).items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield s3_door
    forget_clients()
