"""Prepare both Postgres servers as their superuser, whom only their own socket lets in.

Airflow's database belongs to a role without any other right. Nobody but the superuser enters the
databases that come with a server. The superusers get the passwords that their secrets say now.
"""

import os
import sys

import psycopg2
from psycopg2 import sql

from mf_core.warehouse.bootstrap import create_database

SERVERS = {
    "METADATA_ADMIN_PASSWORD": os.environ["METADATA_ADMIN_DATABASE_URL"],
    "WAREHOUSE_ADMIN_PASSWORD": os.environ["MF_ADMIN_DATABASE_URL"],
}
# Postgres lets every role into both.
COMMON_DATABASES = ("postgres", "template1")


OLDER = (
    "the database server {host} was made by a release before the one that this stack is of, with "
    "another superuser. docs/howto/upgrade.md says what to do with the stack of such a release"
)


def connect(url: str) -> psycopg2.extensions.connection:
    """Connect as the superuser. Exits with words where the server does not know it."""
    try:
        return psycopg2.connect(url.replace("+psycopg2", "", 1))
    except psycopg2.OperationalError as error:
        if "does not exist" in str(error):
            sys.exit(f"{str(error).strip()}\n{OLDER.format(host=url.rpartition('/')[2])}")
        raise


def close_to_the_public(url: str, password: str) -> None:
    """Keep all roles but the superuser out of the common databases, and set its password."""
    connection = connect(url)
    with connection, connection.cursor() as cursor:
        for database in COMMON_DATABASES:
            statement = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC")
            cursor.execute(statement.format(sql.Identifier(database)))
        statement = sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}")
        cursor.execute(statement.format(sql.Literal(password)))
    connection.close()


def main() -> None:
    """Prepare both servers. Exits with what is missing, and its SQL, where something is."""
    for name, url in SERVERS.items():
        close_to_the_public(url, os.environ[name])
    unmet = create_database(
        SERVERS["METADATA_ADMIN_PASSWORD"], "airflow", "airflow", os.environ["METADATA_PASSWORD"]
    )
    if unmet.wanted:
        sys.exit(
            f"the superuser of Airflow's database may not do all that it has to:\n{unmet.script()}"
        )


if __name__ == "__main__":
    main()
