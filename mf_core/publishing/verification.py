"""What was written is checked by SQL before anybody can see it.

    key       first of all: from then on the rows of a user's list lie side by side, in order
    sums      `list_sums/`: what each list comes to, each item, and each user's ratings; one pass
              over the rows for each
    checks    `list_checks/`: most look at the sums, and at rows where a sum says that something
              is wrong
    index     the other one that readers need

All of it is one transaction, so a table that fails has no key, and without its key no table is
attached.
"""

from pathlib import Path

import sqlalchemy as sa
from psycopg2 import sql as pg
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from mf_core.errors import VerificationError
from mf_core.publishing.publish import (
    attached_versions,
    count_rows,
    drop_first_ranks,
    is_verified,
    require_table,
    run,
    table_name,
)
from mf_core.warehouse import states
from mf_core.warehouse.schema import sql

_FOLDER = Path(__file__).parent
_PLACEHOLDER = "recommendation_rows_candidate"
_EXAMPLES = 3
_KEY_CHECK = "ranks_run_from_one"

# In kB, as Postgres counts. A server that grants more keeps its own. Joins get no more than it
# grants: a hash table that is split on disk stays in the processor's caches, and is twice as fast.
_INDEX_MEMORY_KB = 256 << 10

# Ratings that were loaded after the snapshot are unknown to the lists.
_LAST_BATCH = """
SELECT coalesce(max(batch_id), 0)
FROM {mf}.ingest_batches
WHERE finished_at <= (SELECT created_at FROM {mf}.models WHERE model_version = :model_version)
"""


def verify_table(connection: Connection, model_version: int, min_coverage: float) -> int:
    """Check a version's standalone table, index it, and return its number of rows.

    The checks are the queries of `publishing/list_checks/`. Each returns offending rows, a few at
    most; no row means that the check holds.

    Raises:
        VerificationError: a check failed; all failing ones are named.
        StateError: the version was not approved, or its lists are gone by now.
    """
    name = table_name(model_version)
    if model_version in attached_versions(connection):
        return count_rows(connection, name)
    states.require(connection, model_version, ("approved", "evaluated"), "be verified")
    require_table(connection, name)
    _set_up(connection)
    problems = _add_key(connection, name)
    run(connection, "ANALYZE {mf}.{}", pg.Identifier(name))

    of_version = {"model_version": model_version}
    last_batch = connection.scalar(sql(connection, _LAST_BATCH), of_version)
    values = {**of_version, "min_coverage": min_coverage, "last_batch": last_batch}
    _sum_up(connection, name, values)
    problems += _failed_checks(connection, name, values)
    if problems:
        raise VerificationError(
            f"the recommendations of model version {model_version} failed {len(problems)} check(s) "
            f"before anybody saw them. {' | '.join(problems)}. "
            "Readers still see the previous version; see docs/runbook.md#verify."
        )
    _add_item_index(connection, name)
    return int(connection.scalar(sa.text("SELECT coalesce(sum(n), 0) FROM listed")) or 0)


def _set_up(connection: Connection) -> None:
    """Let no plan of this transaction hang on statistics, and give the sorts of indexes room.

    All questions here are about whole tables. A nested loop is the plan of a planner that takes
    one of them for empty, and takes hours if it is not.
    """
    connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
    raised = sa.text(
        "SELECT set_config(name, :room, true) FROM pg_settings "
        "WHERE name = 'maintenance_work_mem' AND setting::bigint < :kb"
    )
    connection.execute(raised, {"room": f"{_INDEX_MEMORY_KB}kB", "kb": _INDEX_MEMORY_KB})


def _add_key(connection: Connection, name: str) -> list[str]:
    """Add the table's key, unless it has one; return what is wrong with the rows if it can't be."""
    if is_verified(connection, name):
        return []
    try:
        with connection.begin_nested():
            run(
                connection,
                "ALTER TABLE {mf}.{} ADD CONSTRAINT {} PRIMARY KEY (model_version, user_id, rank)",
                pg.Identifier(name),
                pg.Identifier(f"{name}_pkey"),
            )
    except IntegrityError as error:
        detail = error.orig.diag.message_detail  # type: ignore[union-attr]
        return [f"{_KEY_CHECK}: {detail}"]
    return []


def _sum_up(connection: Connection, name: str, values: dict[str, object]) -> None:
    """Make the temporary tables that the checks look at: the queries of `list_sums/`, by name."""
    for path in sorted((_FOLDER / "list_sums").glob("*.sql")):
        query = path.read_text().replace(_PLACEHOLDER, name)
        table = f"CREATE TEMPORARY TABLE {path.stem} ON COMMIT DROP AS\n{query}"
        connection.execute(sql(connection, table), values)


def _failed_checks(connection: Connection, name: str, values: dict[str, object]) -> list[str]:
    """Return the checks that do not hold, each with some offending rows."""
    problems = []
    for path in sorted((_FOLDER / "list_checks").glob("*.sql")):
        query = path.read_text().replace(_PLACEHOLDER, name)
        rows = connection.execute(sql(connection, query), values).mappings().all()
        if rows:
            examples = "; ".join(str(dict(row)) for row in rows[:_EXAMPLES])
            problems.append(f"{path.stem}: {examples}")
    return problems


def _add_item_index(connection: Connection, name: str) -> None:
    """Index a version's table by item, for `audience`; what only writing needed goes."""
    drop_first_ranks(connection, name)
    run(
        connection,
        "CREATE INDEX IF NOT EXISTS {} ON {mf}.{} (item_id, rank, user_id)",
        pg.Identifier(f"{name}_item_id_idx"),
        pg.Identifier(name),
    )
