"""Other passwords, TLS, and a second host for training."""

import os
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg2

from tests.compose import standins
from tests.compose.doors import SERVICES
from tests.compose.nights import NIGHT_SECONDS, digest
from tests.compose.trial import DAG_ID, REPOSITORY, Failure, Trial, compose_command, expect

TLS_FILES = "docker-compose.yaml:docker/docker-compose.tls.yaml"
SECOND = "docker-compose.worker.yaml"
PAGE = REPOSITORY / "docs" / "howto" / "second-host.md"
TASKS_OF_TRAINING = {"train", "refit"}
ROTATED = (
    "ADMIN_PASSWORD",
    "JWT_SECRET",
    "METADATA_ADMIN_PASSWORD",
    "METADATA_PASSWORD",
    "MF_CONSOLE_PASSWORD",
    "MF_READER_PASSWORD",
    "MF_WRITER_PASSWORD",
    "REDIS_PASSWORD",
    "REDIS_TRAINING_PASSWORD",
    "WAREHOUSE_ADMIN_PASSWORD",
)
# A password may hold what means something in a URL.
NEW = "n@w:{}/?#%-é"

PING = """
import os, redis
if redis.Redis.from_url(os.environ["AIRFLOW__CELERY__BROKER_URL"]).ping():
    print("PONG")
"""
PING_BROKER = ("run", "--rm", "--no-deps", "worker-gpu", "python", "-c", PING)

TRY_TLS = """
import os, sys, psycopg2, redis
authority = "/tmp/other.crt"
open(authority, "w").write({certificate!r})
right = "/run/secrets/ca.crt"
broker = os.environ["AIRFLOW__CELERY__BROKER_URL"]
warehouse = os.environ["MF_DATABASE_URL"].replace("+psycopg2", "")
plain = broker.replace("rediss:", "redis:").partition("?")[0]
plain_warehouse = warehouse.partition("?")[0] + "?sslmode=disable"
tried = {{
    "redis": lambda: redis.Redis.from_url(broker.replace(right, authority)).ping(),
    "redis without TLS": lambda: redis.Redis.from_url(plain, socket_timeout=5).ping(),
    "redis by another name": lambda: redis.Redis.from_url(
        broker.replace("@redis:", "@{redis_address}:")
    ).ping(),
    "postgres": lambda: psycopg2.connect(warehouse.replace(right, authority)),
    "postgres without TLS": lambda: psycopg2.connect(plain_warehouse),
    "postgres by another name": lambda: psycopg2.connect(
        warehouse.replace("@warehouse/", "@{address}/")
    ),
}}
for what, attempt in tried.items():
    try:
        attempt()
    except (psycopg2.OperationalError, redis.exceptions.ConnectionError) as error:
        continue
    print(what)
redis.Redis.from_url(broker).ping()
psycopg2.connect(warehouse).close()
os.remove(authority)
"""


def other_passwords(trial: Trial) -> str:
    """Change passwords in .env and run compose-up again; the old ones are over."""
    old = trial.secrets()
    _write(trial, {name: NEW.format(name.lower()) for name in ROTATED})
    trial.make("compose-up")
    expect(digest(trial) == trial.rows, "the lists have changed")
    try:
        trial.read("SELECT 1", password=old["MF_READER_PASSWORD"])
    except psycopg2.OperationalError as error:
        expect("password authentication failed" in str(error), f"another refusal: {error}")
        return (
            f"{len(ROTATED)} changed, with special characters; the old one of mf_reader is refused"
        )
    raise Failure("an old password is good for mf_reader")


def one_password(trial: Trial) -> str:
    """Change one login of Airflow's UI: who has nothing to do with it goes on, a training too."""
    before = _starts(trial)
    _write(trial, {"VIEWER_PASSWORD": "another"})
    trial.make("compose-up")
    changed = _changed(before, _starts(trial))
    expect(changed == {"api-server"}, f"started again: {sorted(changed)}")
    return "api-server alone was started again"


def _starts(trial: Trial) -> dict[str, str]:
    """Return when each service's container was started, and which one it is."""
    form = "{{.Id}} {{.State.StartedAt}}"
    return {
        service: standins.docker("inspect", "--format", form, trial.container(service))
        for service in SERVICES
    }


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Return the services that were started in between."""
    return {service for service in after if after[service] != before[service]}


def _write(trial: Trial, values: Mapping[str, str]) -> None:
    """Change settings in .env."""
    file = trial.clone / ".env"
    text = file.read_text()
    for name, value in values.items():
        text = text.replace(f"{name}={trial.secrets()[name]}", f"{name}={value}")
    file.write_text(text)


def lost_passwords(trial: Trial) -> str:
    """Lose .env: new passwords are made and set, and the data are as they were."""
    (trial.clone / ".env").unlink()
    said = trial.make("compose-up")
    expect("FERNET_KEY" in said, "nobody says what is lost with .env")
    expect(digest(trial) == trial.rows, "the lists have changed")
    return "new ones are made and set; the same lists"


def make_certificates(folder: Path, address: str) -> Path:
    """Run what the page says in `folder`; the services are reached by `address` too."""
    commands = _certificates(address)
    subprocess.run(["sh", "-euc", commands], cwd=folder, capture_output=True, check=True)
    return folder / "tls"


def _certificates(address: str) -> str:
    """Return the commands of the page that make an authority and the certificates."""
    block = PAGE.read_text().partition("       mkdir tls")[2].partition("\n\n")[0]
    assert "IP:10.0.0.5" in block
    return f"mkdir tls{block}".replace("IP:10.0.0.5", f"IP:{address}")


def speak_tls(trial: Trial) -> str:
    """Bring the stack up with TLS; another authority, another name and plain words are refused."""
    tls = make_certificates(trial.clone, standins.host_address())
    other = make_certificates(trial.scratch, standins.host_address())
    trial.environment |= {
        "COMPOSE_FILE": TLS_FILES,
        "AIRFLOW_BIND": "0.0.0.0",
        "REDIS_BIND": "0.0.0.0",
    }
    trial.make("compose-up")

    certificate = (other / "ca.crt").read_text()
    program = TRY_TLS.format(
        certificate=certificate,
        address=_address(trial, "warehouse", "warehouse"),
        redis_address=_address(trial, "redis", "broker"),
    )
    opened = trial.python("worker", program)
    expect(opened == "", f"without the right certificate there is a way into {opened}")
    return _readers_speak_tls(trial, tls, other)


def _address(trial: Trial, service: str, network: str) -> str:
    """Return the address of a service in a network of the stack."""
    form = f'{{{{(index .NetworkSettings.Networks "{trial.project}_{network}").IPAddress}}}}'
    return standins.docker("inspect", "--format", form, trial.container(service)).strip()


def _readers_speak_tls(trial: Trial, tls: Path, other: Path) -> str:
    """Read from outside, as the page says."""
    rows = trial.read("SELECT count(*) FROM mf.recommendations", **_verified(tls))
    for refused in (_verified(other), {"sslmode": "disable"}):
        try:
            trial.read("SELECT 1", **refused)
        except psycopg2.OperationalError:
            continue
        raise Failure(f"a reader is let in with {refused}")
    count = rows[0][0]
    return f"verify-full reads {count} rows; another CA, another name and no TLS are refused"


def _verified(tls: Path) -> dict[str, str]:
    return {"sslmode": "verify-full", "sslrootcert": str(tls / "ca.crt")}


def renew_certificates(trial: Trial) -> str:
    """Renew the certificates: who shows them is started again, the training worker is not."""
    before = _starts(trial)
    _, start, loop = _certificates(standins.host_address()).partition("for name")
    subprocess.run(
        ["sh", "-euc", start + loop], cwd=trial.clone / "tls", capture_output=True, check=True
    )
    said = trial.make("compose-up")
    expect("has changed: metadata, redis, warehouse\n" in said, "others were started again")
    # Airflow's own services may die, and come back, while their database is away.
    changed = _changed(before, _starts(trial))
    expect({"metadata", "redis", "warehouse"} <= changed, f"started again: {sorted(changed)}")
    expect("worker-gpu" not in changed, "the training worker was started again")

    shown = ssl.get_server_certificate(("127.0.0.1", trial.redis_port))
    expect(shown in (trial.clone / "tls" / "redis.crt").read_text(), "Redis shows the old one")
    return "both Postgres servers and Redis were started again, the training worker went on"


def artifacts_in_a_folder(trial: Trial) -> str:
    """Move the artifacts, as the page says, into a folder that both hosts would mount."""
    folder = trial.scratch / "mnt"
    folder.mkdir()
    block = PAGE.read_text().partition("copy them:\n\n")[2].partition("\n\n")[0]
    commands = block.replace("docker compose", " ".join(compose_command()))
    subprocess.run(
        ["sh", "-euc", commands.replace("/mnt/mf", str(folder))],
        cwd=trial.clone,
        env=trial.environment,
        check=True,
    )
    found = {str(path.relative_to(folder)) for path in folder.rglob("manifest.json")}
    expect(len(found) > 1, f"the copy has no artifacts: {found}")
    trial.environment["MF_ARTIFACT_FOLDER"] = str(folder)
    trial.make("compose-up")
    # What of root's is in the way of the user 50000 would be found here.
    write = "open('/var/lib/mf/artifacts/models/new', 'w').close()"
    for service in ("worker", "worker-gpu"):
        trial.python(service, write)
        os.remove(folder / "models" / "new")
    return f"{len(found)} artifacts moved; both kinds of worker write there"


def train_on_a_second_host(trial: Trial) -> str:
    """Let a training worker of another stack take over, which reaches published ports only."""
    host = standins.host_address()
    trial.compose("stop", "worker-gpu")
    second = {
        "COMPOSE_PROJECT_NAME": trial.second_project,
        "COMPOSE_FILE": SECOND,
        "AIRFLOW_API_URL": f"http://{host}:{trial.airflow_port}",
        "BROKER_ADDRESS": f"{host}:{trial.redis_port}",
        "WORKER_HOST": host,
    }
    trial.compose("up", "--detach", "--no-build", **second)

    trial.run_id = trial.api().trigger(DAG_ID, {"run.force": True})
    trial.await_night(NIGHT_SECONDS)
    expect(digest(trial) == trial.rows, "other lists")
    taken = {task["task_id"] for task in trial.instances() if task["hostname"] == host}
    expect(taken == TASKS_OF_TRAINING, f"the second host took {taken}")
    log = trial.log("train", 1)
    expect("sweep" in log, f"the log of train does not come over: {log[-500:]}")
    return f"it took {' and '.join(sorted(taken))}, the same lists; their logs stand in the UI"


def wrong_authority_on_the_second_host(trial: Trial) -> str:
    """Let the second host speak to the broker, then give it another authority: now it does not."""
    other = make_certificates(trial.scratch, standins.host_address())
    second = {
        "COMPOSE_PROJECT_NAME": trial.second_project,
        "COMPOSE_FILE": SECOND,
        "BROKER_ADDRESS": f"{standins.host_address()}:{trial.redis_port}",
        **dict.fromkeys(("AIRFLOW_API_URL", "WORKER_HOST"), "/none"),
    }
    trial.compose("down", "--volumes", **second)
    said = {
        folder: trial.compose_says(*PING_BROKER, TLS_FOLDER=str(folder), **second)
        for folder in (trial.clone / "tls", other)
    }
    trial.compose("down", "--volumes", **second)
    right, wrong = said.values()
    expect("PONG" in right, f"with the right authority: {right[-500:]}")
    expect(
        "CERTIFICATE_VERIFY_FAILED" in wrong and "PONG" not in wrong,
        f"with another authority: {wrong[-500:]}",
    )
    return "the right one is believed, another one is CERTIFICATE_VERIFY_FAILED"
