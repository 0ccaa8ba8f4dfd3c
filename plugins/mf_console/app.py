"""The console's web application.

Every route, static files included, asks Airflow whether the caller may see the runs of the
catalogue's DAG (`mf_retrain`; of films, `mf_retrain_films`). Nobody else gets an answer. Each
catalogue has all pages: the default one at the root, films below `of/films/`. The figures come from
`mf_core`; this module only passes them on.

Annotations must stay real objects here: with `from __future__ import annotations`, FastAPI may take
a dependency for a query parameter, and then no check is done.
"""

import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from pydantic import AfterValidator
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from mf_console.access import Asked, Readable, catalogue_of, may_read
from mf_console.runbook import runbook_page
from mf_console.waiting import MissingPools
from mf_console.warehouse import STATEMENT_SECONDS, NoAnswerError, NoPlaceError, look_up
from mf_core.catalogue import Catalogue
from mf_core.errors import MFError
from mf_core.warehouse import address, readers, runs, verdicts
from mf_core.warehouse.text import storable

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    "console.html": "text/html",
    "console.js": "text/javascript",
    "console.css": "text/css",
}
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

_log = logging.getLogger(__name__)


def _require_storable(text: str) -> str:
    if storable(text) != text:
        raise ValueError("an id holds neither NUL nor half a character")
    return text


Id = Annotated[str, Query(min_length=1, max_length=500), AfterValidator(_require_storable)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]


@cache
def build_app() -> FastAPI:
    """Return the console."""
    app = FastAPI(
        title="Recommendations",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(_harden)],
    )
    pages = APIRouter(dependencies=[Depends(may_read)])
    for path, name in (
        ("/", "console.html"),
        ("/console.js", "console.js"),
        ("/console.css", "console.css"),
    ):
        pages.add_api_route(path, partial(_send, name), response_model=None)
    pages.add_api_route("/runbook", _runbook, response_model=None)
    pages.add_api_route("/api/catalogues", catalogues)
    pages.add_api_route("/api/overview", overview)
    pages.add_api_route("/api/versions", versions_page)
    pages.add_api_route("/api/verdicts", verdicts_page)
    pages.add_api_route("/api/runs", runs_page)
    pages.add_api_route("/api/recommendations", recommendations)
    pages.add_api_route("/api/similar", similar)
    app.include_router(pages, prefix="/of/{catalogue}")
    # The one place in Airflow's navigation leads here, whichever catalogue one may see.
    app.add_api_route("/", home, response_model=None)
    app.include_router(pages)
    app.add_exception_handler(MFError, _say_what_is_wrong)
    app.add_exception_handler(SQLAlchemyError, _say_what_is_wrong)
    app.add_exception_handler(RequestValidationError, _say_what_was_asked)
    return app


async def home(readable: Readable) -> Response:
    """Send the page of the default catalogue; who may not see it is led to the first other."""
    first = readable[0]
    if first.name:
        return RedirectResponse(f"of/{first.name}/", status_code=307, headers=HEADERS)
    return await _send("console.html")


async def catalogues(asked: Asked, readable: Readable) -> list[dict[str, Any]]:
    """Return the catalogues that the caller may see, each with its address from this page."""
    root = "../../" if asked.name else "./"
    return [
        {
            "name": catalogue.name or "default",
            "href": f"{root}of/{catalogue.name}/" if catalogue.name else root,
            "shown": catalogue == asked,
        }
        for catalogue in readable
    ]


async def overview(asked: Asked, missing_pools: MissingPools) -> dict[str, Any]:
    """Return the live version, the last run, what it waits for, and each table's first page."""

    def find(connection: Connection) -> dict[str, Any]:
        """Return all of it as of one moment."""
        pages = {name: _page(name, connection, 0) for name in PAGES}
        last_run = next(iter(pages["runs"]["rows"]), None)
        return {"live": readers.live(connection), "last_run": last_run, **pages}

    return {**await look_up(asked, find), "missing_pools": missing_pools}


async def versions_page(asked: Asked, offset: Offset = 0) -> dict[str, Any]:
    """Return a page of the versions, the newest first, and how many there are."""
    return await look_up(asked, lambda connection: _page("versions", connection, offset))


async def verdicts_page(asked: Asked, offset: Offset = 0) -> dict[str, Any]:
    """Return a page of the verdicts, the newest first, and how many there are."""
    return await look_up(asked, lambda connection: _page("verdicts", connection, offset))


async def runs_page(asked: Asked, offset: Offset = 0) -> dict[str, Any]:
    """Return a page of the runs, the newest first, and how many there are."""
    return await look_up(asked, lambda connection: _page("runs", connection, offset))


async def recommendations(
    asked: Asked,
    user_id: Id,
    n: Annotated[int, Query(ge=1, le=LISTED)] = 10,
) -> dict[str, Any]:
    """Return the first `n` items of one user's list."""
    items = await look_up(
        asked, lambda connection: readers.recommendations_for(connection, user_id, n)
    )
    return {"user_id": user_id, "items": items}


async def similar(asked: Asked, item_id: Id) -> dict[str, Any]:
    """Return the items that are most like one."""
    items = await look_up(asked, lambda connection: readers.similar(connection, item_id))
    return {"item_id": item_id, "items": items}


Rows = Callable[[Connection, int, int], list[dict[str, Any]]]
Count = Callable[[Connection], int]
PAGES: dict[str, tuple[Rows, Count, int]] = {
    "versions": (readers.model_history, readers.count_versions, 20),
    "verdicts": (verdicts.gate_decisions, verdicts.count_decisions, 10),
    "runs": (runs.latest, runs.count, 10),
}
"""What gives a table's rows, what counts them, and how many stand on a page."""


def _page(name: str, connection: Connection, offset: int) -> dict[str, Any]:
    rows, count, size = PAGES[name]
    return {
        "rows": rows(connection, size, offset),
        "offset": offset,
        "size": size,
        "total": count(connection),
    }


async def _harden(response: Response) -> None:
    response.headers.update(HEADERS)


async def _runbook() -> HTMLResponse:
    return HTMLResponse(runbook_page(), headers=HEADERS)


async def _send(name: str) -> FileResponse:
    return FileResponse(STATIC / name, media_type=MEDIA_TYPES[name], headers=HEADERS)


async def _say_what_was_asked(_request: Request, error: Exception) -> JSONResponse:
    """Answer 422 with a sentence on what was wrong with the question."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    detail = f"{first['loc'][-1]}: {first['msg']}."
    return JSONResponse({"detail": detail}, status_code=422, headers=HEADERS)


async def _say_what_is_wrong(request: Request, error: Exception) -> JSONResponse:
    """Answer 503 with a sentence where the warehouse is missing, slow or not set up."""
    # The caller gets a sentence of ours. The error may name hosts and roles, so only the server's
    # log gets it.
    _log.warning("The console can't read the warehouse: %s", error)
    return JSONResponse(
        {"detail": _sentence(error, catalogue_of(request))}, status_code=503, headers=HEADERS
    )


# Postgres' codes, with what to do about them.
_SENTENCES = {
    # A schema, a table, a column or a function that is not there.
    **dict.fromkeys(
        ("3F000", "42P01", "42703", "42883"),
        "The warehouse is not set up yet, or is of an older release: run `{migrate}`.",
    ),
    "42501": (
        "The console's role may not read what it shows: run `{bootstrap}` as an administrator, "
        "then `{migrate}`."
    ),
    # A lock, or a statement, that took too long.
    **dict.fromkeys(
        ("55P03", "57014"),
        f"The warehouse did not answer within {STATEMENT_SECONDS} s: it is busy, or somebody holds "
        "a lock on its tables. Reload in a while.",
    ),
}


def _sentence(error: Exception, catalogue: Catalogue) -> str:
    if isinstance(error, NoPlaceError):
        return "Too many people ask at once, or the warehouse is slow. Reload in a while."
    if isinstance(error, NoAnswerError):
        return "The warehouse does not answer. Look whether it is up, and reload in a while."
    sentence = _SENTENCES.get(
        _code_of(error),
        "The warehouse can't be read. Check {console_variable} or the connection {console} "
        "(without them {variable} or {connection}); the server's log says more.",
    )
    return sentence.format(
        migrate=catalogue.command("db migrate"),
        bootstrap=catalogue.command("db bootstrap"),
        console_variable=catalogue.variable(address.CONSOLE_VARIABLE),
        console=catalogue.named(address.CONSOLE_CONNECTION),
        variable=catalogue.variable(address.VARIABLE),
        connection=catalogue.named(address.CONNECTION),
    )


def _code_of(error: BaseException) -> str:
    """Return Postgres' code for an error, or for the one that it was raised from; "": none."""
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if code is None and error.__cause__ is not None:
        return _code_of(error.__cause__)
    return code or ""
