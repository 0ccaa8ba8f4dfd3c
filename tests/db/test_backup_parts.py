"""What a backup is made by and told by: Postgres' own programs, and the manifest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mf_core.backup import manifest as parts
from mf_core.backup import programs
from mf_core.backup.programs import Database, run_program
from mf_core.errors import ArtifactError, ConfigError, DatabaseError


def test_without_pg_dump_of_the_servers_version_it_says_so(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, "echo 'pg_dump (PostgreSQL) 9.6.24'")
    monkeypatch.setenv("MF_PG_BIN", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"pg_dump of Postgres 18 is needed.*found: 9 \(.*MF_PG_BIN"
    ):
        run_program("pg_dump", Database.of(engine), ["--schema-only"])


def _program(folder: Path, lines: str) -> None:
    program = folder / "pg_dump"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)


def test_a_program_that_fails_says_why_and_no_password(engine: Engine) -> None:
    database = Database.of(engine)
    with_password = replace(database, url=database.url.set(password="hunter2", database="nowhere"))
    with pytest.raises(DatabaseError, match='database "nowhere" does not exist') as error:
        run_program("pg_dump", with_password, ["--schema-only"])
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("where", ["before the host", "in the query"])
def test_a_password_is_in_the_environment_and_not_among_the_arguments(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    database = Database.of(engine)
    url = database.url
    if where == "in the query":
        url = url.update_query_dict({"password": "hunter2"})
    else:
        url = url.set(password="hunter2")

    # It notes what it was given, and lets the real one do the work.
    real = programs._suitable("pg_dump", database.server_version)
    noted = tmp_path / "noted"
    _program(tmp_path, f'echo "$PGPASSWORD, $*" > "{noted}"\nexec "{real}" "$@"')
    monkeypatch.setenv("MF_PG_BIN", str(tmp_path))

    dump = tmp_path / "dump"
    run_program("pg_dump", replace(database, url=url), ["--schema-only", f"--file={dump}"])
    assert "CREATE TABLE mf.ratings" in dump.read_text()
    password, _, arguments = noted.read_text().partition(", ")
    assert password == "hunter2"
    assert "--schema-only" in arguments
    assert "hunter2" not in arguments


def test_metadata_that_are_not_in_postgres_are_refused() -> None:
    with pytest.raises(ConfigError, match="metadata lie in sqlite, expected Postgres"):
        Database.at("sqlite:////tmp/airflow.db")


@pytest.mark.parametrize("url", ["hunter2@nowhere", "postgresql://u:hunter2@host:port/airflow"])
def test_a_url_that_cant_be_read_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="--metadata-url can't be read") as error:
        Database.at(url)
    assert "hunter2" not in str(error.value)


WHOLE = parts.Manifest("2026-01-01", "1", "mf", "0001", "file:///x", False, (), {}).to_json()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"7",
        WHOLE.encode()[:-9],
        json.dumps({**json.loads(WHOLE), "lost": None}).encode(),
        json.dumps({**json.loads(WHOLE), "more": 1}).encode(),
        json.dumps({"format": 1}).encode(),
    ],
)
def test_a_manifest_that_is_damaged_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / parts.NAME).write_bytes(WHOLE.encode())
    assert parts.read(tmp_path).to_json() == WHOLE
    (tmp_path / parts.NAME).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"backup\.json is damaged. Nothing was restored"):
        parts.read(tmp_path)
