"""Prepare both Postgres servers as their superuser, whom only their own socket lets in.

Airflow's database belongs to a role without any other right. Nobody but the superuser enters the
databases that come with a server. The superusers get the passwords that their secrets say now.
"""

import os

import psycopg2
from psycopg2 import sql

from mf_core.warehouse.bootstrap import create_database

SERVERS = {
    "METADATA_ADMIN_PASSWORD": os.environ["METADATA_ADMIN_DATABASE_URL"],
    "WAREHOUSE_ADMIN_PASSWORD": os.environ["MF_ADMIN_DATABASE_URL"],
}
# Postgres lets every role into both.
COMMON_DATABASES = ("postgres", "template1")


def close_to_the_public(url: str, password: str) -> None:
    """Keep all roles but the superuser out of the common databases, and set its password."""
    connection = psycopg2.connect(url.replace("+psycopg2", "", 1))
    with connection, connection.cursor() as cursor:
        for database in COMMON_DATABASES:
            statement = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC")
            cursor.execute(statement.format(sql.Identifier(database)))
        statement = sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}")
        cursor.execute(statement.format(sql.Literal(password)))
    connection.close()


for name, url in SERVERS.items():
    close_to_the_public(url, os.environ[name])
create_database(
    os.environ["METADATA_ADMIN_DATABASE_URL"], "airflow", "airflow", os.environ["METADATA_PASSWORD"]
)
