"""Airflow's own web application with the console in it.

Its metadata database and its warehouse are the test's own.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.db.conftest import engine, server, warehouse_url  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-home-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(ROOT / "dags"))
os.environ.setdefault(
    "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "airflow.* mf_core.records.*"
)

Get = Callable[..., httpx.Response]


# What Airflow itself calls by deprecated names: pathspec for .airflowignore, and Starlette's test
# client, which warns of the client library that it finds.
UPSTREAM_WARNINGS = (
    "ignore:GitWildMatchPattern:DeprecationWarning",
    "ignore:Using .httpx. with .starlette.testclient.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep warnings errors, except Airflow's own."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for warning in UPSTREAM_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def airflow_app() -> Any:
    """Airflow's FastAPI app; its plugins folder is the project's."""
    from airflow import plugins_manager, settings
    from airflow.api_fastapi.app import create_app
    from airflow.utils.db import initdb

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of the tests ".ljust(64, "x"))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:viewer")
        patch.setattr(settings, "PLUGINS_FOLDER", str(ROOT / "plugins"))
        plugins_manager._get_plugins.cache_clear()
        initdb()
        yield create_app()


@pytest.fixture(scope="session")
def token(airflow_app: Any) -> str:
    """A token of a user who may look but not touch."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return str(
        get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ada", role="viewer"))
    )


@pytest.fixture(scope="session")
def get(airflow_app: Any, token: str) -> Iterator[Get]:
    """Send a GET request; `bearer` None sends no token."""
    from anyio.from_thread import start_blocking_portal

    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(airflow_app), base_url="http://testserver"
    )

    def _get(path: str, bearer: str | None = token, **params: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return portal.call(lambda: client.get(path, params=params or None, headers=headers))

    with start_blocking_portal() as portal:
        yield _get


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, warehouse_url: str) -> Iterator[str]:  # noqa: F811
    """The console reads this empty, migrated warehouse."""
    from mf_console.warehouse import warehouse_engine

    monkeypatch.setenv("MF_DATABASE_URL", warehouse_url)
    warehouse_engine.cache_clear()
    yield warehouse_url
    warehouse_engine().dispose()
    warehouse_engine.cache_clear()
