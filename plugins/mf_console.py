"""The page "Recommendations" in the Airflow UI: what is live, why, what came before, and one user's list.

Every route, static files included, asks Airflow whether the caller may see the runs of `mf_retrain`: nobody else gets an
answer. The figures come from `mf_core.registry`; this file only passes them on.

The annotations below must stay real objects: with `from __future__ import annotations`, a dependency that is imported inside
a function turns into a query parameter, and no check is done.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.engine import Engine

DAG_ID = "mf_retrain"
PREFIX = "/mf"
STATIC = Path(__file__).parent / "mf_console_static"
MEDIA_TYPES = {
    "console.html": "text/html",
    "console.js": "text/javascript",
    "console.css": "text/css",
}
MODELS, DECISIONS, LISTED = 20, 10, 100

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@cache
def build_app() -> "FastAPI":
    """Return the console."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, Response
    from fastapi.responses import FileResponse

    def harden(response: Response) -> None:
        response.headers.update(HEADERS)

    may_read = requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG_ID)
    app = FastAPI(
        title="Recommendations",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(may_read), Depends(harden)],
    )

    def send(name: str) -> FileResponse:
        return FileResponse(STATIC / name, media_type=MEDIA_TYPES[name], headers=HEADERS)

    app.add_api_route("/", lambda: send("console.html"), response_model=None)
    app.add_api_route("/console.js", lambda: send("console.js"), response_model=None)
    app.add_api_route("/console.css", lambda: send("console.css"), response_model=None)
    _add_data_routes(app)
    _say_what_is_wrong(app)
    return app


def _add_data_routes(app: "FastAPI") -> None:
    from typing import Annotated

    from fastapi import Query

    from mf_core import registry
    from mf_core.warehouse.engine import transaction

    @app.get("/api/overview")
    def overview() -> dict[str, Any]:
        with transaction(warehouse_engine()) as connection:
            return {
                "live": registry.live_version(connection),
                "models": registry.model_history(connection, MODELS),
                "decisions": registry.gate_decisions(connection, DECISIONS),
            }

    @app.get("/api/recommendations")
    def recommendations(
        user_id: Annotated[str, Query(min_length=1, max_length=500)],
        n: Annotated[int, Query(ge=1, le=LISTED)] = 10,
    ) -> dict[str, Any]:
        with transaction(warehouse_engine()) as connection:
            return {
                "user_id": user_id,
                "items": registry.recommendations_for(connection, user_id, n),
            }


def _say_what_is_wrong(app: "FastAPI") -> None:
    """Answer 503 with a sentence where the warehouse is missing, unreachable or not set up."""
    import logging

    from fastapi import Request
    from fastapi.responses import JSONResponse
    from sqlalchemy.exc import SQLAlchemyError

    from mf_core.errors import MFError

    def refuse(_request: Request, error: Exception) -> JSONResponse:
        # The caller gets a sentence of ours; the server's log gets the error, which may name hosts and roles.
        logging.getLogger(__name__).warning("The console can't read the warehouse: %s", error)
        not_set_up = getattr(getattr(error, "orig", None), "pgcode", None) in (
            "3F000",
            "42P01",
            "42883",
        )
        detail = (
            "The warehouse is not set up yet: run `mf db migrate`."
            if not_set_up
            else "The warehouse can't be read. Check MF_DATABASE_URL or the connection mf_warehouse; the server's log says more."
        )
        return JSONResponse({"detail": detail}, status_code=503, headers=HEADERS)

    app.add_exception_handler(MFError, refuse)
    app.add_exception_handler(SQLAlchemyError, refuse)


@cache
def warehouse_engine() -> "Engine":
    """Return the engine on `MF_DATABASE_URL` or, without it, the Airflow connection `mf_warehouse`."""
    from mf_core.warehouse.engine import database_engine

    return database_engine(_warehouse_url())


def _warehouse_url() -> str:
    url = os.environ.get("MF_DATABASE_URL")
    if url:
        return url
    from airflow.exceptions import AirflowNotFoundException
    from airflow.models.connection import Connection

    from mf_core.errors import ConfigError

    try:
        return (
            Connection.get_connection_from_secrets("mf_warehouse").get_uri().split("?__extra__")[0]
        )
    except AirflowNotFoundException:
        raise ConfigError(
            "set MF_DATABASE_URL, or make the Airflow connection mf_warehouse."
        ) from None


def _base_path() -> str:
    """Return the path under which Airflow is served: "" unless `[api] base_url` has one."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """Builds the console at its first request: plugins load in every component, but only the api-server serves one."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass an ASGI call on."""
        await build_app()(scope, receive, send)


class MatrixFactorizationConsole(AirflowPlugin):
    """Registers the console and its place in the navigation."""

    name = "mf_console"
    fastapi_apps: ClassVar = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Recommendations"}]
    external_views: ClassVar = [
        {
            "name": "Recommendations",
            "href": f"{_base_path()}{PREFIX}/",
            "url_route": "recommendations",
            "destination": "nav",
            "nav_top_level": True,
        }
    ]
