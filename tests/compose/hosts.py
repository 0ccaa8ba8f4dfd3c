"""Other passwords, TLS, and a second host for training."""

import subprocess
from pathlib import Path

import psycopg2

from tests.compose import standins
from tests.compose.nights import NIGHT_SECONDS, digest
from tests.compose.trial import DAG_ID, REPOSITORY, Failure, Trial, expect

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
    file = trial.clone / ".env"
    old = trial.secrets()
    text = file.read_text()
    for name in ROTATED:
        text = text.replace(f"{name}={old[name]}", f"{name}={NEW.format(name.lower())}")
    file.write_text(text)
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


def make_certificates(folder: Path, address: str) -> Path:
    """Run what the page says in `folder`; the services are reached by `address` too."""
    block = PAGE.read_text().partition("       mkdir tls")[2].partition("\n\n")[0]
    commands = f"mkdir tls{block}".replace("DNS:airflow.example.org", f"IP:{address}")
    subprocess.run(["sh", "-euc", commands], cwd=folder, capture_output=True, check=True)
    return folder / "tls"


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

    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = standins.docker("inspect", "--format", form, trial.container("warehouse")).strip()
    certificate = (other / "ca.crt").read_text()
    program = TRY_TLS.format(certificate=certificate, address=address)
    opened = trial.python("worker", program)
    expect(opened == "", f"without the right certificate there is a way into {opened}")
    return _readers_speak_tls(trial, tls, other)


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


def train_on_a_second_host(trial: Trial) -> str:
    """Let a training worker of another stack take over, which reaches published ports only."""
    host = standins.host_address()
    # The folder that both hosts would mount.
    form = "{{.Mountpoint}}"
    volume = f"{trial.project}_artifacts"
    artifacts = standins.docker("volume", "inspect", "--format", form, volume).strip()
    trial.compose("stop", "worker-gpu")
    second = {
        "COMPOSE_PROJECT_NAME": trial.second_project,
        "COMPOSE_FILE": SECOND,
        "AIRFLOW_API_URL": f"http://{host}:{trial.airflow_port}",
        "BROKER_ADDRESS": f"{host}:{trial.redis_port}",
        "WORKER_HOST": host,
        "MF_ARTIFACT_FOLDER": artifacts,
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
    """Give the second host another authority: it does not speak to the broker."""
    other = make_certificates(trial.scratch, standins.host_address())
    second = {"COMPOSE_PROJECT_NAME": trial.second_project, "COMPOSE_FILE": SECOND}
    missing = dict.fromkeys(("AIRFLOW_API_URL", "WORKER_HOST", "MF_ARTIFACT_FOLDER"), "/none")
    address = {
        "BROKER_ADDRESS": f"{standins.host_address()}:{trial.redis_port}",
        "TLS_FOLDER": str(other),
    }
    trial.compose("down", "--volumes", **second, **missing, **address)
    program = (
        "import os, redis; redis.Redis.from_url(os.environ['AIRFLOW__CELERY__BROKER_URL']).ping()"
    )
    asked = ("run", "--rm", "--no-deps", "worker-gpu", "python", "-c", program)
    try:
        trial.compose(*asked, **second, **missing, **address)
    except subprocess.CalledProcessError:
        trial.compose("down", "--volumes", **second, **missing, **address)
        return "refused"
    raise Failure("a broker of an unknown authority is believed")
