"""The secrets of an embedded stack, and the environment that Airflow's components run in."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.layout import Layout

ADMIN = "admin"
ROLES = {ADMIN: "admin", "operator": "op", "user": "user", "viewer": "viewer"}
"""The stack's users, each with a role of Airflow's SimpleAuthManager."""


@dataclass(frozen=True)
class Secrets:
    """What must stay the same from start to start.

    Otherwise old connections and sessions could not be read. `passwords` has one for each user.
    """

    passwords: dict[str, str]
    fernet_key: str
    api_secret_key: str
    jwt_secret: str


def load_secrets(layout: Layout) -> Secrets:
    """Return the stack's secrets; what is not there yet is generated."""
    known: dict[str, Any] = {}
    if layout.secrets_file.exists():
        known = json.loads(layout.secrets_file.read_text())

    passwords = dict(known.get("passwords", {}))
    # What a stack of an earlier release has kept.
    if "admin_password" in known:
        passwords.setdefault(ADMIN, known["admin_password"])
    for user in ROLES:
        passwords.setdefault(user, secrets.token_urlsafe(12))

    fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    found = Secrets(
        passwords=passwords,
        fernet_key=known.get("fernet_key", fernet_key),
        api_secret_key=known.get("api_secret_key", secrets.token_urlsafe(32)),
        jwt_secret=known.get("jwt_secret", secrets.token_urlsafe(32)),
    )
    if asdict(found) != known:
        write_private(layout.secrets_file, json.dumps(asdict(found), indent=1))
    return found


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # It is made with its mode, so that nobody else can read it even for a moment.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    descriptor = os.open(temporary, flags, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def component_environment(
    layout: Layout,
    port: int,
    *,
    metadata_url: str,
    warehouse_url: str,
    console_url: str,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of Airflow's components and of the tasks they run.

    The caller's own settings of Airflow (`AIRFLOW__...`) are left out: they belong to another one.
    """
    foreign = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG")
    kept = {name: value for name, value in inherited.items() if not name.startswith(foreign)}

    # The components talk to each other on this machine, past any proxy.
    without_proxy = ["127.0.0.1", "localhost"]
    named = inherited.get("NO_PROXY") or inherited.get("no_proxy")
    if named:
        without_proxy.insert(0, named)
    local = ",".join(without_proxy)

    return {
        **kept,
        **_airflow_settings(layout, port, metadata_url, load_secrets(layout)),
        "AIRFLOW_HOME": str(layout.airflow_home),
        "MF_DATABASE_URL": warehouse_url,
        "MF_CONSOLE_DATABASE_URL": console_url,
        # No percent-encoding here: fsspec takes the path as it stands.
        "MF_ARTIFACT_ROOT": f"file://{layout.artifacts}",
        "MF_CACHE_DIR": str(layout.cache),
        # The supervisor makes the pool; the queue is for the Celery workers of the tests.
        "MF_TRAIN_POOL": "gpu",
        "MF_TRAIN_QUEUE": "gpu",
        "MF_CONFIG": _settings_files(layout, inherited.get("MF_CONFIG", "")),
        "NO_PROXY": local,
        "no_proxy": local,
        "PYTHONUNBUFFERED": "1",
    }


def _settings_files(layout: Layout, own: str) -> str:
    """Return the user's own settings file, if there is one, and the launcher's named sources."""
    # The components run in another folder than the caller.
    files = [str(Path(file).expanduser().resolve()) for file in own.split(os.pathsep) if file]
    return os.pathsep.join([*files, str(layout.sources_file)])


def _airflow_settings(
    layout: Layout, port: int, metadata_url: str, keys: Secrets
) -> dict[str, str]:
    address = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(layout.repository / "dags"),
        "CORE__PLUGINS_FOLDER": str(layout.repository / "plugins"),
        "CORE__FERNET_KEY": keys.fernet_key,
        "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.* mf_core.records.*",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{u}:{role}" for u, role in ROLES.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(layout.passwords_file),
        "DATABASE__SQL_ALCHEMY_CONN": metadata_url,
        "API__BASE_URL": address,
        # The first line of a red task's log says what to do at its end.
        "API__DEFAULT_WRAP": "True",
        "API__SECRET_KEY": keys.api_secret_key,
        "API_AUTH__JWT_SECRET": keys.jwt_secret,
        "LOGGING__BASE_LOG_FOLDER": str(layout.task_logs),
        # What follows makes short tasks quick; new DAG files and killed tasks are noticed soon.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "WORKERS__SOCKET_CLEANUP_TIMEOUT": "5",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {f"AIRFLOW__{name}": value for name, value in settings.items()}
