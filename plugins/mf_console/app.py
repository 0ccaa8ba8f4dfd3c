"""The console's web application.

Every route, static files included, asks Airflow whether the caller may see the runs of
`mf_retrain`. Nobody else gets an answer. The figures come from `mf_core`; this module only passes
them on.

Annotations must stay real objects here: with `from __future__ import annotations`, FastAPI may take
a dependency for a query parameter, and then no check is done.
"""

import logging
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from mf_console.runbook import runbook_page
from mf_console.warehouse import warehouse_engine
from mf_core.errors import MFError
from mf_core.warehouse import readers, transaction, verdicts, versions

DAG_ID = "mf_retrain"
STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    "console.html": "text/html",
    "console.js": "text/javascript",
    "console.css": "text/css",
}
MODELS = 20
DECISIONS = 10
LISTED = 100

CONTENT_SECURITY_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'self'",
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "; ".join(CONTENT_SECURITY_POLICY),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

# Postgres' codes for a schema, a table and a function that are not there.
_NOT_SET_UP = ("3F000", "42P01", "42883")

_log = logging.getLogger(__name__)


@cache
def build_app() -> FastAPI:
    """Return the console."""
    may_read = requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG_ID)
    app = FastAPI(
        title="Recommendations",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(may_read), Depends(_harden)],
    )
    app.add_api_route("/", lambda: _send("console.html"), response_model=None)
    app.add_api_route("/console.js", lambda: _send("console.js"), response_model=None)
    app.add_api_route("/console.css", lambda: _send("console.css"), response_model=None)
    app.add_api_route("/runbook", _runbook, response_model=None)
    app.add_api_route("/api/overview", overview)
    app.add_api_route("/api/recommendations", recommendations)
    app.add_exception_handler(MFError, _say_what_is_wrong)
    app.add_exception_handler(SQLAlchemyError, _say_what_is_wrong)
    return app


def overview() -> dict[str, Any]:
    """Return the live version, the latest versions and the latest verdicts."""
    with transaction(warehouse_engine()) as connection:
        return {
            "live": versions.live_version(connection),
            "models": readers.model_history(connection, MODELS),
            "decisions": verdicts.gate_decisions(connection, DECISIONS),
        }


def recommendations(
    user_id: Annotated[str, Query(min_length=1, max_length=500)],
    n: Annotated[int, Query(ge=1, le=LISTED)] = 10,
) -> dict[str, Any]:
    """Return the first `n` items of one user's list."""
    with transaction(warehouse_engine()) as connection:
        return {
            "user_id": user_id,
            "items": readers.recommendations_for(connection, user_id, n),
        }


def _harden(response: Response) -> None:
    response.headers.update(HEADERS)


def _runbook() -> HTMLResponse:
    return HTMLResponse(runbook_page(), headers=HEADERS)


def _send(name: str) -> FileResponse:
    return FileResponse(STATIC / name, media_type=MEDIA_TYPES[name], headers=HEADERS)


def _say_what_is_wrong(_request: Request, error: Exception) -> JSONResponse:
    """Answer 503 with a sentence where the warehouse is missing, unreachable or not set up."""
    # The caller gets a sentence of ours. The error may name hosts and roles, so only the server's
    # log gets it.
    _log.warning("The console can't read the warehouse: %s", error)
    from_driver = getattr(error.__cause__ or error, "orig", None)
    code = getattr(from_driver, "pgcode", None)
    if code in _NOT_SET_UP:
        detail = "The warehouse is not set up yet: run `mf db migrate`."
    else:
        detail = (
            "The warehouse can't be read. Check MF_DATABASE_URL or the connection mf_warehouse; "
            "the server's log says more."
        )
    return JSONResponse({"detail": detail}, status_code=503, headers=HEADERS)
