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
SECRETS = re.compile(r"PASSWORD|SECRET|FERNET", re.IGNORECASE)


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
    read = set(re.findall(r'"(MF_[A-Z_]+)"', source)) | {address.VARIABLE}
    assert {
        "MF_DATABASE_URL",
        "MF_ARTIFACT_ROOT",
        "MF_SCHEDULE",
        "MF_CONFIG",
        "MF_ALERT_WEBHOOK",
        "MF_TRAIN_QUEUE",
    } <= read
    # Those of other executors.
    read -= {"MF_TRAIN_EXECUTOR", "MF_TRAIN_POD"}
    for name in ("scheduler", "dag-processor", "worker", "worker-gpu"):
        assert read <= set(services[name]["environment"])
    assert "@warehouse/" in services["worker"]["environment"]["MF_DATABASE_URL"]


def test_the_web_server_can_only_read_the_warehouse(services: dict[str, Any]) -> None:
    environment = services["api-server"]["environment"]
    assert environment[address.VARIABLE] == environment["MF_READER_DATABASE_URL"] == ""
    assert "//mf_console:" in environment[address.CONSOLE_VARIABLE]
    for name, service in services.items():
        if name != "api-server":
            assert address.CONSOLE_VARIABLE not in service.get("environment", {})


def test_training_has_no_way_into_the_warehouse(services: dict[str, Any]) -> None:
    environment = services["worker-gpu"]["environment"]
    assert not environment["MF_DATABASE_URL"]
    assert not environment["MF_READER_DATABASE_URL"]


def test_records_may_cross_between_tasks(services: dict[str, Any]) -> None:
    assert (
        "mf_core.records.*"
        in services["worker"]["environment"]["AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"]
    )


def test_metadata_and_ratings_never_share_a_server(services: dict[str, Any]) -> None:
    environment = services["worker"]["environment"]
    assert "@metadata/" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert "@warehouse/" in environment["MF_DATABASE_URL"]


def test_every_service_says_whether_it_is_well(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"init"}


def test_the_same_users_as_in_the_demo_have_a_password_each(services: dict[str, Any]) -> None:
    users = services["api-server"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert dict(user.split(":") for user in users.split(",")) == ROLES
    asked = {f"{user.upper()}_PASSWORD" for user in ROLES}
    assert asked <= set(services["init"]["environment"])
    assert not asked & set(services["worker"]["environment"])

    script = (ROOT / "docker" / "init.sh").read_text()
    program = script.partition("<<'END'\n")[2].partition("END\n")[0]
    given = {name: name.lower() for name in asked}
    written = subprocess.run(
        [sys.executable, "-"], input=program, env=given, capture_output=True, text=True, check=True
    )
    passwords = json.loads(written.stdout)
    assert passwords == {user: f"{user}_password" for user in ROLES}


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    asked = re.findall(r"\$\{(\w+)(:[?-])?", text)
    secrets = {name for name, _ in asked if SECRETS.search(name)}
    assert secrets
    assert {operator for name, operator in asked if name in secrets} == {":?"}


def test_the_example_environment_names_every_variable() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    example = (ROOT / "docker" / ".env.example").read_text()
    for name, operator in set(re.findall(r"\$\{(\w+)(:[?-])?", text)):
        line = rf"^{name}=$" if operator == ":?" else rf"^# {name}="
        assert re.search(line, example, re.MULTILINE), name


def test_only_the_override_asks_for_a_gpu(services: dict[str, Any]) -> None:
    assert not [name for name, service in services.items() if "deploy" in service]
    override = yaml.safe_load((ROOT / "docker" / "docker-compose.gpu.yaml").read_text())["services"]
    (device,) = override["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert set(override) <= set(services)


def test_images_run_as_a_user_and_hold_only_locked_packages() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert text.count("\nUSER airflow") == 2
    assert "requirements.txt" in text
    assert "requirements-gpu.txt" in text
    assert stat.S_IXUSR & (ROOT / "docker" / "init.sh").stat().st_mode


def test_the_gpu_image_differs_only_by_cuda() -> None:
    def pins(path: Path) -> dict[str, str]:
        return dict(
            re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\n]+)", path.read_text(), re.MULTILINE)
        )

    cpu, gpu = pins(ROOT / "requirements.txt"), pins(ROOT / "docker" / "requirements-gpu.txt")
    assert len(cpu) > 100
    assert {name: gpu.get(name) for name in cpu} == cpu
    assert all(name.startswith("nvidia-") for name in set(gpu) - set(cpu))
