"""The console: who may see it, what it says, and that other people's words stay words."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

Get = Callable[..., httpx.Response]

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
STATIC = PLUGINS / "mf_console" / "static"
ROUTES = [
    "/mf/",
    "/mf/console.js",
    "/mf/console.css",
    "/mf/runbook",
    "/mf/api/catalogues",
    "/mf/api/overview",
    "/mf/api/versions",
    "/mf/api/verdicts",
    "/mf/api/runs",
    "/mf/api/recommendations?user_id=1",
    "/mf/api/similar?item_id=1",
]
NASTY = "<script>alert('\"title\"')</script>"


def test_every_route_of_the_console_is_tested_for_access() -> None:
    from fastapi.routing import APIRoute

    from mf_console.app import build_app

    routes = [route for route in build_app().routes if isinstance(route, APIRoute)]
    assert len(routes) == len(build_app().routes)
    paths = [f"/mf{route.path}" for route in routes]
    tested = {route.partition("?")[0] for route in ROUTES}
    # Each page stands at the root, and once more for named catalogues (test_console_catalogues.py).
    assert {path for path in paths if "{catalogue}" not in path} == tested
    named = {path.replace("/of/{catalogue}", "") for path in paths if "{catalogue}" in path}
    assert named == tested


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_without_a_token_gets_an_answer(get: Get, route: str) -> None:
    assert get(route, bearer=None).status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_a_bad_token_is_refused(get: Get, route: str) -> None:
    assert get(route, bearer="not.a.token").status_code == 403


@pytest.mark.parametrize("route", ROUTES)
def test_a_viewer_gets_an_answer_that_is_neither_cached_nor_framed_elsewhere(
    get: Get, warehouse: str, route: str
) -> None:
    response = get(route)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    policy = response.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy


def test_there_is_no_schema_for_strangers(get: Get) -> None:
    assert get("/mf/openapi.json", bearer=None).status_code in (401, 404)
    assert get("/mf/docs", bearer=None).status_code in (401, 404)


def test_an_empty_warehouse_has_nothing_live(get: Get, warehouse: str) -> None:
    sizes = {"versions": 20, "verdicts": 10, "runs": 10}
    page = {"rows": [], "offset": 0, "total": 0}
    pages = {name: {**page, "size": size} for name, size in sizes.items()}
    empty: dict[str, Any] = {"live": None, "last_run": None, "missing_pools": [], **pages}
    assert get("/mf/api/overview").json() == empty
    assert get("/mf/api/recommendations", user_id="1").json() == {"user_id": "1", "items": []}
    assert get("/mf/api/similar", item_id="1").json() == {"item_id": "1", "items": []}


def test_a_warehouse_that_does_not_answer_is_said_in_words(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_console.warehouse import warehouse_engine

    monkeypatch.setenv(
        "MF_CONSOLE_DATABASE_URL", "postgresql+psycopg2://mf_console:hunter2@127.0.0.1:1/nowhere"
    )
    warehouse_engine.cache_clear()
    response = get("/mf/api/overview")
    warehouse_engine.cache_clear()
    assert response.status_code == 503
    assert "can't be read" in response.json()["detail"]
    assert "hunter2" not in response.text


def test_a_warehouse_without_tables_is_said_in_words(
    get: Get, warehouse: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA mf CASCADE"))
    response = get("/mf/api/overview")
    assert response.status_code == 503
    assert "mf db migrate" in response.json()["detail"]


def test_titles_and_ids_stay_words(
    get: Get, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mf_core.warehouse import readers

    asked: list[Any] = []

    def listed(connection: Any, user_id: str, n: int) -> list[dict[str, Any]]:
        asked.append((user_id, n))
        return [
            {
                "rank": 1,
                "item_id": NASTY,
                "title": NASTY,
                "score": 0.5,
                "predicted_rating": 4.2,
                "source": "model",
            }
        ]

    monkeypatch.setattr(readers, "recommendations_for", listed)
    response = get("/mf/api/recommendations", user_id="O'Neil; --", n=3)
    assert asked == [("O'Neil; --", 3)]
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["items"][0]["title"] == NASTY


def test_the_page_never_makes_markup_of_data() -> None:
    script = (STATIC / "console.js").read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in script
    page = (STATIC / "console.html").read_text()
    assert "<script>" not in page
    assert "style=" not in page


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"user_id": ""},
        {"user_id": "1", "n": 0},
        {"user_id": "1", "n": 101},
        {"user_id": "1", "n": "9" * 400},
        {"user_id": "1\0"},
        {"user_id": "\0"},
        {"user_id": "x" * 501},
    ],
)
def test_a_malformed_question_is_refused(get: Get, warehouse: str, params: dict[str, Any]) -> None:
    response = get("/mf/api/recommendations", **params)
    assert response.status_code == 422
    # A sentence for the page, with the name of what was wrong.
    assert response.json()["detail"].startswith(("user_id: ", "n: "))


@pytest.mark.parametrize(
    "params", [{}, {"item_id": ""}, {"item_id": "1\0"}, {"item_id": "x" * 501}]
)
def test_a_malformed_item_is_refused(get: Get, warehouse: str, params: dict[str, Any]) -> None:
    response = get("/mf/api/similar", **params)
    assert response.status_code == 422
    assert response.json()["detail"].startswith("item_id: ")


@pytest.mark.parametrize(
    "user_id", ["\ufffe", "\U0010ffff", "\x01", "%ED%A0%80", "' OR ''='", "a\\b"]
)
def test_a_strange_question_gets_an_answer(get: Get, warehouse: str, user_id: str) -> None:
    response = get("/mf/api/recommendations", user_id=user_id)
    assert response.json() == {"user_id": user_id, "items": []}


@pytest.mark.parametrize("bytes_in_url", ["%ED%A0%80", "%FF%FE", "%C0%80"])
def test_bytes_that_are_no_text_get_an_answer(get: Get, warehouse: str, bytes_in_url: str) -> None:
    assert get(f"/mf/api/recommendations?user_id={bytes_in_url}").status_code == 200


@pytest.mark.parametrize("name", ["versions", "verdicts", "runs"])
def test_no_page_is_beyond_the_bounds(get: Get, warehouse: str, name: str) -> None:
    assert get(f"/mf/api/{name}", offset=10**9).json()["rows"] == []
    for offset in (-1, 10**9 + 1, "x"):
        assert get(f"/mf/api/{name}", offset=offset).status_code == 422


def test_the_navigation_names_the_console(airflow_app: Any) -> None:
    from airflow import plugins_manager

    external_views, _ = plugins_manager._get_ui_plugins()
    assert ("Recommendations", "/mf/") in {(view["name"], view["href"]) for view in external_views}


def test_loading_the_plugin_builds_no_web_application() -> None:
    probe = (
        "import mf_console.plugin, sys; "
        "print([name for name in ('fastapi', 'pandas', 'mf_core') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environment,
    )
    assert done.stdout.splitlines()[-1] == "[]"
