"""docker/databases.py, which prepares the servers of the compose stack, on a real server."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg2

from .test_roles import Server, bare_server  # noqa: F401

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "databases.py"


def _prepare(metadata: str, warehouse: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "METADATA_ADMIN_DATABASE_URL": metadata,
        "MF_ADMIN_DATABASE_URL": warehouse,
        "METADATA_ADMIN_PASSWORD": "one",
        "WAREHOUSE_ADMIN_PASSWORD": "two",
        "METADATA_PASSWORD": "three",
    }
    return subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )


def test_airflow_s_role_is_plain_and_only_the_superuser_enters_the_common_databases(
    bare_server: Server,  # noqa: F811
) -> None:
    for _ in range(2):
        done = _prepare(bare_server.admin_url, bare_server.admin_url)
        assert done.returncode == 0, done.stderr
    connection = psycopg2.connect(bare_server.url("airflow", "airflow").replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb,"
            " has_database_privilege('postgres', 'CONNECT'),"
            " pg_get_userbyid(datdba)"
            " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = 'airflow'"
        )
        assert cursor.fetchone() == (False, False, "airflow")
    connection.close()


def test_a_server_of_an_older_release_is_refused_with_the_page_that_helps(
    bare_server: Server,  # noqa: F811
) -> None:
    done = _prepare(bare_server.url("postgres", "metadata_admin"), bare_server.admin_url)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "docs/howto/upgrade.md" in done.stderr
