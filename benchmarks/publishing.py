"""Publishing at size: rows into a verified table that goes live while readers read.

    python -m benchmarks.publishing --users 138000 --places 100

The floor is what Postgres itself takes for the same rows: psql's `\\copy` into an empty table of
the same columns, then the same two indexes. Ours writes tiles of lists as `recommend` does, adds
the indexes and verifies. Then readers query all the while: nobody else there, while the lists of
the next version are loaded, and while they are verified and go live.

What is published is made up (`benchmarks.made_up_lists`): no list is computed, so no step but
publishing is measured.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.made_up_lists import Lists
from mf_core.publishing import publish, verification
from mf_core.warehouse import database_engine, transaction
from mf_core.warehouse.bootstrap import bootstrap_warehouse, migrate
from mf_core.warehouse.embedded import EmbeddedServer, start_embedded
from mf_core.warehouse.engine import copy_table
from mf_core.warehouse.versions import Approval

N_READERS = 50
QUERIES_A_SECOND = 500
KEPT_VERSIONS = 5
_SAMPLED_USERS = 200

_QUERY = r"""\set u random(1, :n_users)
SELECT * FROM mf.recommendations_for(:u::text);
"""


@dataclass
class Stage:
    """A warehouse with ratings, and what has been measured on it."""

    lists: Lists
    folder: Path
    server: EmbeddedServer
    engine: Engine
    figures: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to the figures."""
        started = time.perf_counter()
        yield
        self.figures[name] = self.figures.get(name, 0.0) + time.perf_counter() - started

    def run(self, statement: str, **values: Any) -> Any:
        """Run a statement in a transaction of its own, and return what it finds first."""
        with transaction(self.engine) as connection:
            result = connection.execute(sa.text(statement), values)
            return result.scalar() if result.returns_rows else None

    def alone(self, *statements: str) -> None:
        """Run statements as the administrator, each outside of a transaction."""
        url = sa.make_url(self.server.admin_url).set(database="warehouse")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def psql(self, command: str) -> None:
        """Run a command of psql as the writer."""
        url = sa.make_url(self.server.url("warehouse", "mf_writer"))
        program = str(self.server.bin_dir / "psql")
        where = ["-h", str(self.server.socket_dir), "-U", "mf_writer", "-d", str(url.database)]
        subprocess.run([program, "-q", "-v", "ON_ERROR_STOP=1", *where, "-c", command], check=True)


def measure(
    n_users: int, n_places: int, *, idle_seconds: float = 10.0, folder: Path | None = None
) -> dict[str, Any]:
    """Return the seconds of publishing `n_users` x `n_places` rows, beside their floor.

    Keys:
        rows: how many.
        floor_s: psql's `\\copy` and the two indexes (`floor_copy_s`, `floor_index_s`).
        write_s, verify_s, attach_s: the shards' COPY; indexes and checks; the attachment.
        load_and_index_s: `write_s` and `index_s`, what the floor is compared with.
        checks_s: the verification besides the indexes.
        ratio: `load_and_index_s` over `floor_s`.
        promotion_ms: how long going live takes while readers read.
        reader_p99_ms: of the queries of 50 readers: idle, loading, publishing; None where a phase
            was too short for pgbench to write any down.
        read_ms: median of one user's list in the server, among five kept versions.
        never_executed: partitions that the plan of one user's list skips; of `kept_versions`.

    Args:
        n_users: users.
        n_places: rows of each user's list.
        idle_seconds: how long readers are measured with nobody else there.
        folder: an empty folder for the server's files; None: a temporary one.
    """
    with tempfile.TemporaryDirectory(prefix="mf-publishing-", dir=folder) as name:
        server = start_embedded(Path(name) / "data")
        try:
            bootstrap_warehouse(server.admin_url)
            url = server.url("warehouse", "mf_writer")
            migrate(url)
            engine = database_engine(url)
            stage = Stage(Lists(n_users, n_places), Path(name), server, engine)
            _publish_all(stage)
            _read(stage)
            _read_all_the_while(stage, idle_seconds)
            engine.dispose()
        finally:
            server.stop()
    return stage.figures


def _publish_all(stage: Stage) -> None:
    """Take the floor, publish beside it, and add the other versions that are kept."""
    figures = stage.figures
    figures["rows"] = stage.lists.n_users * stage.lists.n_places
    _load_ratings(stage)
    _take_floor(stage)

    version = _approved(stage)
    _write(stage, version, "write_s")
    _verify(stage, version)
    with stage.timed("attach_s"), transaction(stage.engine) as connection:
        publish.attach(connection, version)
    _go_live(stage, version)
    figures["load_and_index_s"] = figures["write_s"] + figures["index_s"]
    figures["ratio"] = figures["load_and_index_s"] / figures["floor_s"]

    _keep_more(stage, version)


def _load_ratings(stage: Stage) -> None:
    """Load the ratings of all users, with their key."""
    lists = stage.lists
    with transaction(stage.engine) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO mf.ingest_batches "
                "(source_uri, content_sha256, fingerprint, mode, state, started_at, finished_at) "
                "VALUES ('made up', '', '', 'merge', 'loaded', now(), now())"
            )
        )
        connection.execute(sa.text("ALTER TABLE mf.ratings DROP CONSTRAINT ratings_pkey"))
        for users in lists.tiles():
            item = lists.items(users, 0, lists.n_ratings).ravel()
            columns = {
                "user_id": lists.user_ids.take(np.repeat(users, lists.n_ratings)),
                "item_id": lists.item_ids.take(item),
                "rating": pa.array(0.5 + 0.5 * (item % 10)),
                "batch_id": pa.array(np.ones(len(item), np.int64)),
            }
            copy_table(connection, ("mf", "ratings"), pa.table(columns))
        connection.execute(sa.text("ALTER TABLE mf.ratings ADD PRIMARY KEY (user_id, item_id)"))
    stage.alone("VACUUM (ANALYZE) mf.ratings", "CHECKPOINT")
    stage.run(
        "INSERT INTO mf.snapshots (snapshot_id, split_id, uri, sha256, protocol, n_users, n_items) "
        "VALUES ('made up', 'made up', '', '', 'hash', :users, :items)",
        users=lists.n_users,
        items=lists.n_items,
    )


def _take_floor(stage: Stage) -> None:
    """Have psql and Postgres do the same; the table is one of the kept versions afterwards."""
    version = _approved(stage)
    lists = stage.lists
    file = stage.folder / "rows.csv"
    with file.open("wb") as sink:
        for users in lists.tiles():
            rows = lists.table(users, version, datetime.now(UTC))
            no_header = pyarrow.csv.WriteOptions(include_header=False)
            pyarrow.csv.write_csv(rows, sink, no_header)

    table = publish.table_name(version)
    stage.run(f"CREATE TABLE mf.{table} (LIKE mf.recommendation_rows)")
    stage.alone("CHECKPOINT")
    with stage.timed("floor_copy_s"):
        stage.psql(f"\\copy mf.{table} from '{file}' (format csv)")
    with stage.timed("floor_index_s"):
        stage.psql(f"ALTER TABLE mf.{table} ADD PRIMARY KEY (model_version, user_id, rank)")
        stage.psql(f"CREATE INDEX ON mf.{table} (item_id, rank, user_id)")
    file.unlink()
    figures = stage.figures
    figures["floor_s"] = figures["floor_copy_s"] + figures["floor_index_s"]
    stage.run(f"ANALYZE mf.{table}")
    _attach_and_go_live(stage, version)


def _approved(stage: Stage) -> int:
    """Return a new version that the gate has let pass."""
    version = stage.run(
        "INSERT INTO mf.models (run_key, state, snapshot_id, split_id, training_fingerprint, "
        "config, code_version, top_n) SELECT 'run' || count(*), 'approved', 'made up', 'made up', "
        "'', '{}', '', :top_n FROM mf.models RETURNING model_version",
        top_n=stage.lists.n_places,
    )
    return int(version)


def _write(stage: Stage, version: int, name: str) -> None:
    """Write a version's rows, shard by shard."""
    lists = stage.lists
    now = datetime.now(UTC)
    stage.alone("CHECKPOINT")
    with transaction(stage.engine) as connection:
        publish.create_table(connection, version, "made up")
    for first, last, tiles in lists.shards():
        # Made before: to compute lists is another step's work.
        tables = list(lists.tables(tiles, version, now))
        with stage.timed(name), transaction(stage.engine) as connection:
            publish.write_shard(connection, version, first, last, tables)


def _verify(stage: Stage, version: int) -> None:
    """Verify a version, as its step does; the indexes' share is that of the statements."""
    spent = {"index_s": 0.0}
    started = [0.0]

    def before(*_: Any) -> None:
        started[0] = time.perf_counter()

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "PRIMARY KEY" in statement or statement.startswith("CREATE INDEX"):
            spent["index_s"] += time.perf_counter() - started[0]

    sa.event.listen(stage.engine, "before_cursor_execute", before)
    sa.event.listen(stage.engine, "after_cursor_execute", after)
    with stage.timed("verify_s"), transaction(stage.engine) as connection:
        verification.verify_table(connection, version, min_coverage=0.01)
    sa.event.remove(stage.engine, "before_cursor_execute", before)
    sa.event.remove(stage.engine, "after_cursor_execute", after)
    figures = stage.figures
    figures["index_s"] = spent["index_s"]
    figures["checks_s"] = figures["verify_s"] - spent["index_s"]


def _attach_and_go_live(stage: Stage, version: int) -> None:
    with transaction(stage.engine) as connection:
        publish.attach(connection, version)
    _go_live(stage, version)


def _go_live(stage: Stage, version: int) -> None:
    publish.wait_for_planned_readers(stage.engine)
    live = stage.run("SELECT model_version FROM mf.live")
    with stage.timed("promotion_ms"), transaction(stage.engine) as connection:
        publish.go_live(connection, version, live, by="benchmark", approval=Approval())
    stage.figures["promotion_ms"] = 1_000 * stage.figures["promotion_ms"]


def _keep_more(stage: Stage, version: int) -> None:
    """Add versions with the same rows until there are as many as are kept."""
    columns = (
        "user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source, generated_at"
    )
    source = publish.table_name(version)
    for _ in range(KEPT_VERSIONS - 2):
        more = _approved(stage)
        table = publish.table_name(more)
        with transaction(stage.engine) as connection:
            publish.create_table(connection, more, "made up")
        stage.run(f"INSERT INTO mf.{table} SELECT {more}, {columns} FROM mf.{source}")
        stage.run(
            f"ALTER TABLE mf.{table} ADD CONSTRAINT {table}_pkey "
            "PRIMARY KEY (model_version, user_id, rank)"
        )
        stage.run(f"CREATE INDEX ON mf.{table} (item_id, rank, user_id)")
        stage.run(f"ANALYZE mf.{table}")
        _attach_and_go_live(stage, more)
    stage.alone("CHECKPOINT")


def _read(stage: Stage) -> None:
    """Time one user's list in the server, and see what its plan skips."""
    reader = database_engine(stage.server.url("warehouse", "mf_reader"))
    chosen = np.random.default_rng(0).choice(stage.lists.user_ids.to_pylist(), _SAMPLED_USERS)
    milliseconds = []
    with reader.connect() as connection:
        for user in chosen:
            explained = sa.text(
                "EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM mf.recommendations_for(:user)"
            )
            [plan] = connection.execute(explained, {"user": user}).scalar_one()
            milliseconds.append(plan["Execution Time"])
    reader.dispose()
    view = f"EXPLAIN (ANALYZE) SELECT * FROM mf.recommendations WHERE user_id = '{chosen[0]}'"
    with transaction(stage.engine) as connection:
        plan_lines = list(connection.scalars(sa.text(view)))
    figures = stage.figures
    figures["read_ms"] = float(np.median(milliseconds))
    figures["read_p99_ms"] = float(np.quantile(milliseconds, 0.99))
    figures["kept_versions"] = KEPT_VERSIONS
    figures["never_executed"] = sum(
        "never executed" in line and "recommendation_rows_v" in line for line in plan_lines
    )


def _read_all_the_while(stage: Stage, idle_seconds: float) -> None:
    """Load, verify and publish one more version while readers query."""
    p99 = {}
    with _readers(stage, "idle") as idle:
        time.sleep(idle_seconds)
    p99["idle"] = idle()

    version = _approved(stage)
    with _readers(stage, "loading") as loading:
        _write(stage, version, "write_while_read_s")
    p99["loading"] = loading()

    figures = stage.figures
    quiet = {name: figures[name] for name in ("verify_s", "index_s", "checks_s")}
    figures["verify_s"] = 0.0
    with _readers(stage, "publishing") as publishing:
        _verify(stage, version)
        figures["promotion_ms"] = 0.0
        _attach_and_go_live(stage, version)
    p99["publishing"] = publishing()
    figures["verify_while_read_s"] = figures["verify_s"]
    figures.update(quiet)
    figures["reader_p99_ms"] = p99


@contextmanager
def _readers(stage: Stage, phase: str) -> Iterator[Any]:
    """Have readers query within the block; what it gives returns their p99 in ms afterwards."""
    script = stage.folder / "read.sql"
    script.write_text(_QUERY)
    prefix = stage.folder / phase
    command = [
        str(stage.server.bin_dir / "pgbench"), "--no-vacuum",
        "--client", str(N_READERS), "--jobs", "2", "--rate", str(QUERIES_A_SECOND),
        "--time", "3600", "--define", f"n_users={stage.lists.n_users}", "--file", str(script),
        "--log", "--log-prefix", str(prefix),
        "-h", str(stage.server.socket_dir), "-U", "mf_reader", "warehouse",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def p99() -> float | None:
        """Return the 99th percentile of the time from the call to the last row, in ms."""
        microseconds = []
        for file in stage.folder.glob(f"{phase}.*"):
            # Told to end, pgbench may leave half a line at the end.
            for line in file.read_text().splitlines()[:-1]:
                _client, _number, elapsed, _script, _s, _us, lag = line.split()
                microseconds.append(int(elapsed) - int(lag))
        return float(np.quantile(microseconds, 0.99)) / 1_000 if microseconds else None

    try:
        yield p99
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=13_800)
    parser.add_argument("--places", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(measure(options.users, options.places), indent=1))


if __name__ == "__main__":
    main()
