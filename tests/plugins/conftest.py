"""Airflow's own web application with the console in it.

Its metadata database and its warehouse are the test's own.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.airflow_home import use_own_airflow_home
from tests.db.conftest import engine, server, warehouse_url  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
use_own_airflow_home()
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(ROOT / "dags"))
os.environ.setdefault(
    "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "airflow.* mf_core.records.*"
)

Get = Callable[..., httpx.Response]
GetAll = Callable[[list[str]], list[tuple[httpx.Response, float]]]


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


@dataclass(frozen=True)
class Visitor:
    """Somebody with a token, and the event loop that Airflow's application runs in."""

    client: httpx.AsyncClient
    portal: Any
    token: str

    async def ask(self, path: str, params: dict[str, Any], bearer: str | None) -> httpx.Response:
        """Send a GET request."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return await self.client.get(path, params=params or None, headers=headers)

    async def ask_all(self, paths: list[str]) -> list[tuple[httpx.Response, float]]:
        """Send GET requests at once; return each answer with the seconds that it took."""

        async def timed(path: str) -> tuple[httpx.Response, float]:
            """Send one, and look at the clock."""
            start = time.monotonic()
            response = await self.ask(path, {}, self.token)
            return response, time.monotonic() - start

        return await asyncio.gather(*map(timed, paths))


@pytest.fixture(scope="session")
def visitor(airflow_app: Any, token: str) -> Iterator[Visitor]:
    """The user who may look but not touch."""
    from anyio.from_thread import start_blocking_portal

    transport = httpx.ASGITransport(airflow_app)
    client = httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=120)
    with start_blocking_portal() as portal:
        yield Visitor(client, portal, token)


@pytest.fixture(scope="session")
def get(visitor: Visitor) -> Get:
    """Send a GET request; `bearer` None sends no token."""

    def _get(path: str, bearer: str | None = visitor.token, **params: Any) -> httpx.Response:
        return visitor.portal.call(visitor.ask, path, params, bearer)

    return _get


@pytest.fixture(scope="session")
def get_all(visitor: Visitor) -> GetAll:
    """Send GET requests at once."""
    return lambda paths: visitor.portal.call(visitor.ask_all, paths)


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, warehouse_url: str) -> Iterator[str]:  # noqa: F811
    """The console reads this empty, migrated warehouse, as the role that it has for that."""
    from mf_console.warehouse import warehouse_engine

    console_url = warehouse_url.replace("mf_writer", "mf_console")
    monkeypatch.setenv("MF_CONSOLE_DATABASE_URL", console_url)
    warehouse_engine.cache_clear()
    yield warehouse_url
    warehouse_engine().dispose()
    warehouse_engine.cache_clear()
