"""A new Fernet key, by the commands of the page: Airflow's connections stay readable."""

import os
import subprocess
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from tests.pages import commands, run

URI = "postgres://mf_writer:hunter2@host:5432/warehouse"
SAVE = f"""
from airflow.models import Connection
from airflow.utils.db import initdb
from airflow.utils.session import create_session
initdb()
with create_session() as session:
    session.add(Connection(conn_id="mf_warehouse", uri="{URI}"))
"""
READ = """
from airflow.models import Connection
from airflow.utils.session import create_session
with create_session() as session:
    print(session.query(Connection).filter_by(conn_id="mf_warehouse").one().password)
"""


def python(code: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_connections_are_read_with_the_new_key_alone(tmp_path: Path) -> None:
    (block,) = commands("howto/rotate-passwords.md", "Fernet key")
    old = Fernet.generate_key().decode()
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    saved = python(SAVE, {**home, "AIRFLOW__CORE__FERNET_KEY": old})
    assert saved.returncode == 0, saved.stderr

    run(block, tmp_path, {**home, "AIRFLOW__CORE__FERNET_KEY": old})
    new = (tmp_path / "new_key").read_text().strip()
    read = python(READ, {**home, "AIRFLOW__CORE__FERNET_KEY": new})
    assert read.stdout.strip().splitlines()[-1:] == ["hunter2"], read.stderr
    assert "hunter2" not in python(READ, {**home, "AIRFLOW__CORE__FERNET_KEY": old}).stdout
