"""What people who may only trigger can make the worker do: each attack by REST, as they would."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from demo.airflow_api import AirflowApi, ApiError
from demo.run import DAG_ID
from demo.settings import load_secrets

from .conftest import Retrain

SECRET = "not-for-those-who-trigger"
CSV = "user_id,item_id,rating\n1,10,4\n"
MOVE_LIVE = (
    "SELECT 1; INSERT INTO mf.live VALUES (true, 1); UPDATE mf.live SET model_version = 1; COMMIT"
)
CONNECTION = "rights_test"


@dataclass
class Internal:
    """A server inside the network. What it was asked for, it remembers."""

    server: http.server.ThreadingHTTPServer
    asked: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.server.server_port)


@pytest.fixture(scope="module")
def internal() -> Iterator[Internal]:
    """A server that has a secret, and a page that sends on to it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            found.asked.append(self.path)
            is_redirect = self.path.startswith("/away")
            self.send_response(302 if is_redirect else 200)
            if is_redirect:
                self.send_header("Location", f"http://127.0.0.1:{found.port}/secret")
            self.end_headers()
            self.wfile.write(SECRET.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Internal(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def shared(
    retrain: Retrain, internal: Internal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder that a trigger may name; the operator has also listed a host and a connection."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "ratings.csv").write_text(CSV)
    secret = folder.parent / "secret.csv"
    secret.write_text(SECRET)
    (folder / "link.csv").symlink_to(secret)

    rules = {
        "roots": [str(folder)],
        "schemes": ["http"],
        "hosts": [f"localhost:{internal.port}"],
        "connections": [CONNECTION],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in rules.items()]
    retrain.settings_file.write_text("\n".join(["[trigger]", *lines]))
    yield folder
    retrain.settings_file.write_text("")


@pytest.fixture(scope="module")
def people(retrain: Retrain) -> dict[str, AirflowApi]:
    """The API as each of the stack's users."""
    passwords = load_secrets(retrain.stack.layout).passwords
    address = retrain.stack.state.address
    return {user: AirflowApi(address, user, password) for user, password in passwords.items()}


@pytest.fixture(scope="module")
def connection(retrain: Retrain) -> str:
    """An Airflow connection that the operator has listed. Its role owns the warehouse."""
    url = sa.make_url(retrain.stack.state.warehouse_url)
    body = {
        "connection_id": CONNECTION,
        "conn_type": "postgres",
        "login": url.username,
        "schema": url.database,
        "extra": json.dumps(dict(url.query)),
    }
    retrain.stack.api.call("POST", "/connections", body)
    return CONNECTION


def _warehouse(retrain: Retrain) -> list[Any]:
    """Return what an attack would change."""
    query = """
    SELECT (SELECT array_agg(l::text) FROM mf.live AS l), (SELECT count(*) FROM mf.ratings),
        (SELECT count(*) FROM mf.ingest_batches), (SELECT count(*) FROM mf.models)
    """
    engine = sa.create_engine(retrain.stack.state.warehouse_url, poolclass=sa.NullPool)
    with engine.connect() as open_connection:
        return list(open_connection.execute(sa.text(query)).one())


def _attacks(shared: Path, internal: Internal) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the conf of each attack, and what the task's log says of it."""
    sql = {"source.uri": "sql", "source.query": MOVE_LIVE}
    return {
        "SQL as the writer": (
            {**sql, "source.database_url_env": "MF_DATABASE_URL"},
            "source.database_url_env can't be set by a trigger",
        ),
        "SQL on a listed connection": (
            {**sql, "source.connection": CONNECTION},
            "cannot open multi-query plan as cursor",
        ),
        "a file": ({"source.uri": "/etc/passwd"}, "none of the folders of trigger.roots"),
        "a chained URL": (
            {"source.uri": "filecache::file:///proc/self/environ"},
            "no chained URI",
        ),
        "a link out of its folder": (
            {"source.uri": f"{shared}/ratings.csv", "source.items_uri": f"{shared}/link.csv"},
            "source.items_uri: a trigger may not reach",
        ),
        "an inner address": (
            {"source.uri": f"http://127.0.0.1:{internal.port}/secret?sig={SECRET}"},
            "its host is none of trigger.hosts",
        ),
        "an inner address behind a listed one": (
            {"source.uri": f"http://localhost:{internal.port}/away?sig={SECRET}"},
            "its host is none of trigger.hosts",
        ),
        # Proof that the others were refused for what they are: this file is read.
        "a file that is allowed": (
            {"source.uri": f"{shared}/ratings.csv", "source.sha256": "0" * 64},
            "expected sha256 0000",
        ),
    }


def test_a_plain_user_reaches_nothing_that_is_not_listed(
    retrain: Retrain,
    shared: Path,
    internal: Internal,
    people: dict[str, AirflowApi],
    connection: str,
) -> None:
    retrain.stack.api.set_paused(DAG_ID, False)
    before = _warehouse(retrain)
    attacks = _attacks(shared, internal)
    runs = {name: people["user"].trigger(DAG_ID, conf) for name, (conf, _) in attacks.items()}

    for name, run_id in runs.items():
        run = retrain.wait_for_end(run_id, 120)
        states = retrain.states(run_id)
        said = "".join(retrain.log(run_id, task) for task, state in states.items() if state)
        assert run.state == "failed", name
        assert attacks[name][1] in said, name
        # The secret, a line of /etc/passwd, and an entry of the environment.
        for leak in (SECRET, "root:", "AIRFLOW__CORE__FERNET_KEY"):
            assert leak not in said, name

    assert _warehouse(retrain) == before
    assert [path.partition("?")[0] for path in internal.asked] == ["/away"]


def test_a_viewer_triggers_nothing_and_a_user_changes_no_connection(
    people: dict[str, AirflowApi], retrain: Retrain
) -> None:
    before = retrain.stack.api.unfinished_runs(DAG_ID)
    with pytest.raises(ApiError) as refusal:
        people["viewer"].trigger(DAG_ID, {})
    assert refusal.value.status == 403
    assert people["viewer"].call("GET", f"/dags/{DAG_ID}")["dag_id"] == DAG_ID

    body = {"connection_id": "mine", "conn_type": "postgres", "host": "127.0.0.1"}
    with pytest.raises(ApiError) as refusal:
        people["user"].call("POST", "/connections", body)
    assert refusal.value.status == 403
    assert people["operator"].call("GET", "/connections")["total_entries"] >= 0
    assert retrain.stack.api.unfinished_runs(DAG_ID) == before
