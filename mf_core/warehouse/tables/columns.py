"""What all tables share: the schema, how constraints are named, and kinds of columns."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    MetaData,
    Text,
)

SCHEMA = "mf"

# Migrations drop constraints by name, so Postgres does not choose the names.
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

ID = Text(collation="C")
TIME = DateTime(timezone=True)


def counter(name: str, comment: str) -> Column[int]:
    """Return a column of numbers that start from 0."""
    return Column(name, BigInteger, nullable=False, server_default="0", comment=comment)


def version(comment: str) -> Column[int]:
    """Return the column `model_version` as part of a primary key, without a foreign key."""
    return Column(
        "model_version",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        nullable=False,
        comment=comment,
    )
