"""The console with several catalogues: each for those who may see its runs, and for nobody else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.warehouse import database_engine
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer
from tests.db.test_publish import publish_one
from tests.db.worlds import make_ratings, make_world

from .test_console import ROUTES

Get = Callable[..., httpx.Response]
FILMS = Catalogue("films")
NAMED_ROUTES = [route.replace("/mf/", "/mf/of/films/") for route in ROUTES]


@pytest.fixture
def may_see(airflow_app: Any, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The DAGs whose runs the user may see: the manager of these tests has no rights by DAG."""
    from airflow.api_fastapi.app import get_auth_manager

    allowed: set[str] = set()

    def is_authorized_dag(_manager: object, *, details: Any = None, **_: object) -> bool:
        return details is not None and details.id in allowed

    monkeypatch.setattr(type(get_auth_manager()), "is_authorized_dag", is_authorized_dag)
    return allowed


@pytest.fixture
def tagged(airflow_app: Any) -> Iterator[None]:
    """Airflow knows the DAGs of two catalogues, and one that is gone by now."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.utils.session import create_session

    # Another test may have left `mf_retrain` there, which is as good.
    made = []
    with create_session() as session:
        for dag_id, tag, is_stale in (
            ("mf_retrain", "recommendations", False),
            ("mf_retrain_films", "mf-catalogue:films", False),
            ("mf_retrain_games", "mf-catalogue:games", True),
            ("mf_retrain_odd", "mf-catalogue:<b>%", False),
        ):
            if session.get(DagModel, dag_id) is None:
                dag = DagModel(dag_id=dag_id, is_stale=is_stale, bundle_name=_a_bundle(session))
                dag.tags = [DagTag(name=tag, dag_id=dag_id)]
                session.add(dag)
                made.append(dag_id)
    yield
    with create_session() as session:
        for dag in session.scalars(sa.select(DagModel).where(DagModel.dag_id.in_(made))):
            session.delete(dag)


def _a_bundle(session: Any) -> str:
    """Return the name of a bundle of DAGs, which a DAG must have."""
    from airflow.models.dagbundle import DagBundleModel

    if session.get(DagBundleModel, "tests") is None:
        session.add(DagBundleModel(name="tests"))
        session.flush()
    return "tests"


@pytest.fixture
def films(
    monkeypatch: pytest.MonkeyPatch,
    warehouse: str,
    server: EmbeddedServer,
    tmp_path: Path,
) -> Iterator[None]:
    """Films beside the default catalogue, in one database; version 1 of each is live."""
    from mf_console.warehouse import warehouse_engine

    name = str(sa.make_url(warehouse).database)
    bootstrap_warehouse(server.admin_url, name, catalogue=FILMS)
    migrate(server.url(name, "mf_writer_films"), catalogue=FILMS)
    for seed, catalogue in enumerate((DEFAULT, FILMS)):
        writer = catalogue.named("mf_writer")
        engine = database_engine(
            server.url(name, writer), catalogue=catalogue, poolclass=sa.NullPool
        )
        world = make_world(engine, tmp_path / writer, make_ratings(seed))
        publish_one(world, f"the night of {catalogue.name or 'default'}")
    monkeypatch.setenv("MF_CONSOLE_DATABASE_URL_FILMS", server.url(name, "mf_console_films"))
    yield
    warehouse_engine(FILMS).dispose()


@pytest.mark.parametrize("route", NAMED_ROUTES)
def test_nobody_without_a_token_gets_an_answer(get: Get, route: str) -> None:
    assert get(route, bearer=None).status_code == 401
    assert get(route, bearer="not.a.token").status_code == 403


def test_who_may_not_see_the_runs_of_films_sees_nothing_of_films(
    get: Get, films: None, may_see: set[str], tagged: None
) -> None:
    may_see.add("mf_retrain")
    for route in ROUTES:
        answer = get(route)
        assert answer.status_code == 200
        assert "films" not in answer.text or route == "/mf/runbook"
    for route in NAMED_ROUTES:
        assert get(route).status_code == 403
    # It can't be told from a catalogue that is not there, or can't be.
    for name in ("games", "nothing", "A%20b", "%7Bmf%7D"):
        answer = get(f"/mf/of/{name}/api/overview")
        assert (answer.status_code, answer.text) == (403, get(NAMED_ROUTES[0]).text)


def test_who_may_see_films_only_is_led_there(
    get: Get, films: None, may_see: set[str], tagged: None
) -> None:
    may_see.add("mf_retrain_films")
    home = get("/mf/")
    assert (home.status_code, home.headers["location"]) == (307, "of/films/")
    for route in NAMED_ROUTES:
        assert get(route).status_code == 200
    for route in set(ROUTES) - {"/mf/"}:
        assert get(route).status_code == 403
    listed = get("/mf/of/films/api/catalogues").json()
    assert listed == [{"name": "films", "href": "../../of/films/", "shown": True}]


def test_each_page_shows_its_own_catalogue(
    get: Get, films: None, may_see: set[str], tagged: None
) -> None:
    may_see.update(("mf_retrain", "mf_retrain_films"))
    assert get("/mf/api/catalogues").json() == [
        {"name": "default", "href": "./", "shown": True},
        {"name": "films", "href": "./of/films/", "shown": False},
    ]
    assert [one["href"] for one in get("/mf/of/films/api/catalogues").json()] == [
        "../../",
        "../../of/films/",
    ]
    ours = get("/mf/api/overview").json()
    theirs = get("/mf/of/films/api/overview").json()
    assert ours["live"]["rmse"] != theirs["live"]["rmse"]
    assert (
        get("/mf/api/recommendations", user_id="u001").json()
        != get("/mf/of/films/api/recommendations", user_id="u001").json()
    )


def test_catalogues_of_the_environment_are_known_as_well(
    get: Get, may_see: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MF_CATALOGUES", "films, books,,Not one")
    may_see.update(("mf_retrain_films", "mf_retrain_books", "mf_retrain_Not one"))
    listed = get("/mf/of/films/api/catalogues").json()
    assert [one["name"] for one in listed] == ["books", "films"]


def test_a_catalogue_without_a_warehouse_is_said_with_its_own_names(
    get: Get, may_see: set[str]
) -> None:
    may_see.add("mf_retrain_books")
    answer = get("/mf/of/books/api/overview")
    assert answer.status_code == 503
    assert "MF_CONSOLE_DATABASE_URL_BOOKS or the connection mf_console_books" in answer.text


def test_nobody_may_see_a_thing(get: Get, may_see: set[str], tagged: None) -> None:
    for route in (*ROUTES, *NAMED_ROUTES):
        assert get(route).status_code == 403
