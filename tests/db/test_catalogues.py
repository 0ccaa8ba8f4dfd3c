"""Several catalogues in one database: each has its own, and nothing of the others."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.catalogue import DEFAULT, Catalogue
from mf_core.config.sections import SplitConfig
from mf_core.data.split import take_snapshot
from mf_core.errors import ConfigError, DatabaseError
from mf_core.tune import studies
from mf_core.warehouse import database_engine, readers, transaction, versions, warehouse_url
from mf_core.warehouse.address import console_url
from mf_core.warehouse.bootstrap import alembic_config, bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer
from mf_core.warehouse.roles import Roles
from mf_core.warehouse.schema import schema_of, sql

from .test_cli import SMALL, Mf, ratings_file  # noqa: F401
from .test_publish import publish_one
from .worlds import N_USERS, World, make_ratings, make_world

FILMS = Catalogue("films")
BOOKS = Catalogue("books")
CATALOGUES = (DEFAULT, FILMS)
HOSTILE = ("{mf}", "{reader}", "100%", "%(n)s", ":n", "o'k", 'say "hi"', "a\\b", "$$", "é")


@dataclass(frozen=True)
class Shared:
    """A database that several catalogues share."""

    server: EmbeddedServer
    name: str

    def url(self, role: str) -> str:
        """Return its URL for a role."""
        return self.server.url(self.name, role)

    def engine(self, catalogue: Catalogue, role: str = "writer") -> Engine:
        """Return an engine of a catalogue, as one of its roles."""
        user = getattr(Roles.in_force(catalogue), role)
        return database_engine(self.url(user), catalogue=catalogue, poolclass=sa.NullPool)

    def admin(self) -> Engine:
        """Return an engine of the superuser."""
        return sa.create_engine(self.url("postgres"), poolclass=sa.NullPool)


@pytest.fixture
def shared(server: EmbeddedServer) -> Iterator[Shared]:
    """An empty database with two catalogues, both migrated."""
    database = Shared(server, f"shared_{uuid.uuid4().hex[:12]}")
    for catalogue in CATALOGUES:
        bootstrap_warehouse(server.admin_url, database.name, catalogue=catalogue)
        writer = Roles.in_force(catalogue).writer
        migrate(database.url(writer), catalogue=catalogue)
    yield database

    admin = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE "{database.name}" WITH (FORCE)'))


@pytest.fixture
def worlds(shared: Shared, tmp_path: Path) -> dict[Catalogue, World]:
    """A world for each catalogue, with other ratings."""
    return {
        catalogue: make_world(
            shared.engine(catalogue),
            tmp_path / (catalogue.name or "default"),
            make_ratings(seed),
            log=[],
        )
        for seed, catalogue in enumerate(CATALOGUES)
    }


def lists(world: World) -> pd.DataFrame:
    """Return all lists that readers of a world see."""
    with transaction(world.place.engine) as connection:
        query = "SELECT * FROM {mf}.recommendations ORDER BY user_id, rank"
        rows = connection.execute(sql(connection, query)).mappings()
        return pd.DataFrame([dict(row) for row in rows])


def fingerprint(shared: Shared, catalogue: Catalogue) -> dict[str, str]:
    """Return a hash of the content of every table and view of a catalogue, by its name.

    Those for monitoring are left out: time passes in them.
    """
    with shared.admin().connect() as connection:
        names = connection.scalars(
            sa.text(
                "SELECT oid::regclass::text FROM pg_class "
                "WHERE relnamespace = to_regnamespace(:schema) AND relkind IN ('r', 'v') "
                "AND NOT starts_with(relname, 'monitoring_')"
            ),
            {"schema": catalogue.schema},
        ).all()
        digest = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} AS t"
        return {name: str(connection.scalar(sa.text(digest.format(name)))) for name in names}


def run_beside(works: Sequence[Callable[[], object]]) -> list[object]:
    """Do several things at once, and return what comes of each."""
    results: list[object] = [None] * len(works)

    def do(number: int) -> None:
        try:
            results[number] = works[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=do, args=[number]) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


# Nights.


def test_nights_side_by_side_give_each_catalogue_its_own_lists(
    worlds: dict[Catalogue, World],
) -> None:

    def three_nights(world: World) -> list[int]:
        return [publish_one(world, f"night {n}") for n in range(3)]

    nights = [partial(three_nights, world) for world in worlds.values()]
    assert run_beside(nights) == [[1, 2, 3], [1, 2, 3]]

    ours, theirs = (lists(world) for world in worlds.values())
    assert len(ours) == len(theirs) == 5 * N_USERS
    assert not ours[["user_id", "item_id"]].equals(theirs[["user_id", "item_id"]])


def test_what_one_catalogue_does_changes_no_byte_of_the_other(
    worlds: dict[Catalogue, World], shared: Shared
) -> None:
    for world in worlds.values():
        publish_one(world, "one")
        publish_one(world, "two")
    before = fingerprint(shared, DEFAULT)
    assert "mf.recommendation_rows_v2" in before

    films = worlds[FILMS].with_settings(publish__keep_versions=1)
    with transaction(films.place.engine) as connection:
        readers.hide(connection, "i001", reason="", by="ada")
    pipeline.rollback(films.place)
    publish_one(films, "three")
    publish_one(films, "four")
    pipeline.start_run(films.place, "five")
    pipeline.close_run(films.place, "five", ["train"])

    # The films' first versions are gone by now, and the other's of the same numbers are there.
    assert not {"mf_films.recommendation_rows_v1", "mf_films.recommendation_rows_v2"} & set(
        fingerprint(shared, FILMS)
    )
    assert fingerprint(shared, DEFAULT) == before


def test_locks_of_one_catalogue_keep_nobody_of_the_other_waiting(
    worlds: dict[Catalogue, World], shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mf_core.warehouse.engine.LOCK_TIMEOUT", pd.Timedelta(seconds=2))
    publish_one(worlds[DEFAULT], "one")
    with shared.engine(DEFAULT).begin() as connection:
        # Everything that a night of the default catalogue could lock, held for good.
        versions.lock_live(connection)
        connection.execute(sql(connection, "LOCK TABLE {mf}.ingest_batches, {mf}.models"))
        connection.execute(sql(connection, "COMMENT ON SCHEMA {mf} IS 'locked'"))
        publish_one(worlds[FILMS], "one")
        publish_one(worlds[FILMS], "two")
        pipeline.rollback(worlds[FILMS].place)
        migrate(shared.url("mf_writer_films"), catalogue=FILMS)
        with pytest.raises(DatabaseError, match=r"schema mf, such as `mf db migrate`"):
            migrate(shared.url("mf_writer"))


@pytest.mark.parametrize("sees_sessions", [True, False])
def test_another_catalogues_night_holds_no_retirement_back(
    worlds: dict[Catalogue, World], shared: Shared, sees_sessions: bool
) -> None:
    if not sees_sessions:
        with shared.admin().begin() as connection:
            connection.execute(sa.text("REVOKE pg_read_all_stats FROM mf_writer"))
    world = worlds[DEFAULT].with_settings(publish__keep_versions=1)
    publish_one(world, "one")
    repeatable = shared.engine(FILMS).execution_options(isolation_level="REPEATABLE READ")
    with repeatable.connect() as theirs:
        theirs.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        publish_one(world, "two")
        assert not table(shared, 1)

    # A reader of the same catalogue does.
    ours = shared.engine(DEFAULT, "reader").execution_options(isolation_level="REPEATABLE READ")
    with ours.connect() as reader:
        reader.execute(sa.text("SELECT 1 FROM pg_class LIMIT 1"))
        publish_one(world, "three")
        assert table(shared, 2)

        # At rest between two transactions, it reads nothing.
        reader.rollback()
        publish_one(world, "four")
        assert not table(shared, 2)


def table(shared: Shared, version: int) -> str | None:
    """Return the table of a version of the default catalogue; None: it is gone."""
    with shared.admin().connect() as connection:
        name = f"mf.recommendation_rows_v{version}"
        found: str | None = connection.scalar(
            sa.select(sa.cast(sa.func.to_regclass(name), sa.Text))
        )
        return found


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=str)
def test_ids_that_look_like_placeholders_stay_what_they_are(
    shared: Shared, tmp_path: Path, catalogue: Catalogue
) -> None:
    ratings = make_ratings()
    for number, hostile in enumerate(HOSTILE):
        ratings = ratings.replace({f"u{number:03d}": hostile, f"i{number:03d}": f"i{hostile}"})
    world = make_world(shared.engine(catalogue), tmp_path, ratings)
    publish_one(world, "{mf} 100% :n")

    seen = lists(world)
    assert set(HOSTILE) <= set(seen["user_id"])
    assert any(item.removeprefix("i") in HOSTILE for item in seen["item_id"])
    with shared.engine(catalogue, "reader").connect() as connection:
        query = sql(connection, "SELECT item_id FROM {mf}.recommendations_for(:user, 5)")
        for user in HOSTILE:
            listed = connection.scalars(query, {"user": user}).all()
            assert listed == seen[seen["user_id"] == user]["item_id"].tolist()


# Who may see what.


def objects(shared: Shared, catalogue: Catalogue) -> list[tuple[str, str]]:
    """Return the kind and the name of everything in a catalogue's schemas."""
    query = sa.text("""
        SELECT CASE WHEN relkind = 'S' THEN 'sequence' ELSE 'table' END, oid::regclass::text
        FROM pg_class
        WHERE relnamespace::regnamespace::text = ANY(:schemas) AND relkind IN ('r', 'p', 'v', 'S')
        UNION ALL
        SELECT 'function', oid::regprocedure::text FROM pg_proc
        WHERE pronamespace::regnamespace::text = ANY(:schemas)
    """)
    schemas = [catalogue.schema, catalogue.tune_schema]
    with shared.admin().connect() as connection:
        return [(kind, name) for kind, name in connection.execute(query, {"schemas": schemas})]


def call(name: str) -> str:
    """Return a call of a function, NULL for each argument."""
    function, _, arguments = name.partition("(")
    return f"{function}({', '.join('NULL' for _ in arguments.split(','))})"


@pytest.mark.parametrize("role", ["writer", "reader", "console", "monitor"])
@pytest.mark.parametrize(("mine", "other"), [(DEFAULT, FILMS), (FILMS, DEFAULT)], ids=str)
def test_a_role_of_one_catalogue_sees_nothing_of_the_other(
    worlds: dict[Catalogue, World], shared: Shared, role: str, mine: Catalogue, other: Catalogue
) -> None:
    for world in worlds.values():
        publish_one(world, "one")
        studies(world.place.engine)
    tried = objects(shared, other)
    assert {kind for kind, _ in tried} == {"table", "sequence", "function"}
    assert len(tried) > 30

    with shared.engine(mine, role).connect() as connection:
        for kind, name in tried:
            statement = f"SELECT {call(name)}" if kind == "function" else f"SELECT * FROM {name}"
            with pytest.raises(sa.exc.ProgrammingError) as refused:
                connection.execute(sa.text(statement))
            assert isinstance(refused.value.orig, psycopg2.errors.InsufficientPrivilege), name
            connection.rollback()

        # The same role sees its own.
        if role != "monitor":
            found = connection.execute(sql(connection, "SELECT * FROM {mf}.model_history"))
            assert len(found.all()) == 1


def test_a_writer_of_one_catalogue_can_not_work_as_the_other(shared: Shared) -> None:
    wrong = database_engine(shared.url("mf_writer"), catalogue=FILMS)
    with (
        pytest.raises(ConfigError, match=r"mf_writer lacks a right.*connect as mf_writer_films "),
        transaction(wrong) as connection,
    ):
        take_snapshot(connection, SplitConfig())
    with pytest.raises(ConfigError, match=r"must be owner of schema mf_films"):
        migrate(shared.url("mf_writer"), catalogue=FILMS)


# Schemas and revisions.


def test_each_schema_has_a_revision_of_its_own(
    worlds: dict[Catalogue, World], shared: Shared
) -> None:
    engine = worlds[DEFAULT].place.engine
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0006")

    # The other catalogue goes on as if nothing were.
    publish_one(worlds[FILMS], "one")
    pipeline.start_run(worlds[FILMS].place, "two")
    with pytest.raises(DatabaseError, match=r"schema mf is at revision 0006.*Run `mf db migrate`"):
        pipeline.start_run(worlds[DEFAULT].place, "one")

    migrate(shared.url("mf_writer"))
    publish_one(worlds[DEFAULT], "one")


def test_emptying_one_catalogue_leaves_the_other(
    worlds: dict[Catalogue, World], shared: Shared
) -> None:
    publish_one(worlds[DEFAULT], "one")
    before = fingerprint(shared, DEFAULT)
    migrate(shared.url("mf_writer_films"), "base", catalogue=FILMS)
    assert set(fingerprint(shared, FILMS)) == {"mf_films.alembic_version"}
    with pytest.raises(
        DatabaseError, match=r"mf_films is missing.*`mf --catalogue films db migrate`"
    ):
        pipeline.start_run(worlds[FILMS].place, "one")
    assert fingerprint(shared, DEFAULT) == before

    migrate(shared.url("mf_writer_films"), catalogue=FILMS)
    pipeline.start_run(worlds[FILMS].place, "one")


def test_both_schemas_are_alike_to_the_last_comment_and_grant(shared: Shared) -> None:
    described = sa.text("""
        SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod),
            col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class'),
            replace(c.relacl::text, '_films', ''), replace(a.attacl::text, '_films', ''),
            replace(pg_get_viewdef(c.oid), '_films', '')
        FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = to_regnamespace(:schema)
        UNION ALL
        SELECT proname, 'f', NULL, NULL, NULL, obj_description(oid, 'pg_proc'),
            replace(proacl::text, '_films', ''), NULL,
            replace(pg_get_functiondef(oid), '_films', '')
        FROM pg_proc WHERE pronamespace = to_regnamespace(:schema)
        UNION ALL
        SELECT conname, 'c', NULL, NULL, NULL, replace(pg_get_constraintdef(oid), '_films', ''),
            NULL, NULL, NULL
        FROM pg_constraint WHERE connamespace = to_regnamespace(:schema)
        ORDER BY 1, 2, 3
    """)
    with shared.admin().connect() as connection:
        ours, theirs = (
            connection.execute(described, {"schema": catalogue.schema}).all()
            for catalogue in CATALOGUES
        )
    assert len(ours) > 300
    assert ours == theirs


def test_studies_lie_in_the_schema_of_the_catalogue(shared: Shared) -> None:
    assert studies(shared.engine(FILMS)) == []
    with shared.admin().connect() as connection:
        tables = sa.text(
            "SELECT schemaname, count(*) FROM pg_tables WHERE tablename IN ('trials', 'studies', "
            "'version_info') GROUP BY 1"
        )
        assert connection.execute(tables).all() == [("mf_tune_films", 3)]


# Names.


def test_roles_may_have_any_name(server: EmbeddedServer, tmp_path: Path) -> None:
    shared = Shared(server, f"named_{uuid.uuid4().hex[:12]}")
    roles = Roles(*(f'{field} "of" {{reader}} 100% {shared.name[-4:]}' for field in "wrcm"))
    bootstrap_warehouse(server.admin_url, shared.name, catalogue=BOOKS, roles=roles)
    bootstrap_warehouse(server.admin_url, shared.name, catalogue=BOOKS, roles=roles)
    migrate(shared.url(roles.writer), "0005", catalogue=BOOKS, roles=roles)
    migrate(shared.url(roles.writer), catalogue=BOOKS, roles=roles)
    engine = database_engine(shared.url(roles.writer), catalogue=BOOKS, roles=roles)
    world = make_world(engine, tmp_path)
    publish_one(world, "one")
    for role in (roles.reader, roles.console):
        reader = database_engine(shared.url(role), catalogue=BOOKS, poolclass=sa.NullPool)
        with reader.connect() as connection:
            found = connection.execute(sql(connection, "SELECT * FROM {mf}.model_history"))
            assert len(found.all()) == 1
    migrate(shared.url(roles.writer), "base", catalogue=BOOKS, roles=roles)


def test_names_come_from_the_environment_of_the_catalogue() -> None:
    environ = {"MF_READER_ROLE": "r", "MF_READER_ROLE_FILMS": "rf", "MF_WRITER_ROLE": ""}
    assert Roles.in_force(DEFAULT, environ) == Roles(reader="r")
    assert Roles.in_force(FILMS, environ) == Roles(
        "mf_writer_films", "rf", "mf_console_films", "mf_monitor_films"
    )
    with pytest.raises(ConfigError, match="four different roles"):
        Roles.in_force(DEFAULT, {"MF_READER_ROLE": "mf_writer"})
    with pytest.raises(ConfigError, match="1 to 63 bytes"):
        Roles(writer="é" * 32)


def test_addresses_come_from_the_environment_or_the_connection_of_the_catalogue() -> None:
    connections = {"mf_warehouse_films": "postgres://w@host/db", "mf_console": "postgres://c@h/d"}
    environ = {"MF_DATABASE_URL": "postgresql://ours", "MF_CONSOLE_DATABASE_URL_FILMS": "theirs"}
    assert warehouse_url(environ, connections.get, FILMS) == "postgresql+psycopg2://w@host/db"
    assert console_url(environ, connections.get, FILMS) == "theirs"
    assert console_url(environ, connections.get) == "postgresql+psycopg2://c@h/d"
    with pytest.raises(ConfigError, match=r"MF_DATABASE_URL_BOOKS, or .* 'mf_warehouse_books'"):
        warehouse_url(environ, connections.get, BOOKS)
    with pytest.raises(ConfigError, match="set MF_DATABASE_URL_BOOKS="):
        warehouse_url(environ, catalogue=BOOKS)


def test_the_artifacts_of_a_catalogue_lie_below_the_common_root(shared: Shared) -> None:
    url = shared.url("mf_writer_films")
    place = pipeline.workplace(url, "s3://bucket/models/", catalogue=FILMS)
    assert place.artifact_root == "s3://bucket/models/mf_films"
    assert place.catalogue == FILMS
    assert schema_of(place.engine) == "mf_films"
    assert pipeline.workplace(url, "s3://bucket/models/").artifact_root == "s3://bucket/models"


# The command.


def test_the_command_works_on_the_catalogue_that_is_named(
    server: EmbeddedServer,
    tmp_path: Path,
    ratings_file: Path,  # noqa: F811
) -> None:
    name = f"commands_{uuid.uuid4().hex[:12]}"
    mf = Mf(
        MF_ADMIN_DATABASE_URL=server.admin_url,
        MF_DATABASE_URL_FILMS=server.url(name, "mf_writer_films"),
        MF_ARTIFACT_ROOT=(tmp_path / "artifacts").as_uri(),
        MF_GPU_LOCK=str(tmp_path / "lock"),
        MF_CONFIG="/not/there.toml",
    )
    assert "mf_reader_films" in mf("db", "bootstrap", "--catalogue", "films", "--database", name)
    assert "schema mf_films is at head" in mf("db", "migrate", "--catalogue", "films")

    mf.environ["MF_CATALOGUE"] = "films"
    mf("run", f"--set=source.uri={ratings_file}", *SMALL)
    assert mf.json("status")["live_version"] == 1
    assert len(mf.json("recommend", "u001")) > 0
    assert (tmp_path / "artifacts" / "mf_films" / "models" / "1").is_dir()

    # The option comes before the variable, and another catalogue is another warehouse.
    mf("--catalogue", "books", "status", code=2)
    assert "set MF_DATABASE_URL_BOOKS" in mf.errors
    mf("--catalogue", "tune", "status", code=2)
    assert "Choose a name that does not start with `tune`" in mf.errors
