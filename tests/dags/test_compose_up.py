"""docker/compose.py: what it makes of .env, and what it says; `make test-compose` runs it whole."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

import env_file
import inventory
import mf_core
import secret_files
import stack_files
import with_secrets
from compose_command import StackError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docker" / "compose.py"
EXAMPLE = (ROOT / "docker" / ".env.example").read_text()


@pytest.fixture(scope="module")
def compose_up() -> ModuleType:
    """The script, as a module."""
    specification = importlib.util.spec_from_file_location("compose_up", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Where dataclasses look their module up.
    sys.modules["compose_up"] = module
    specification.loader.exec_module(module)
    return module


def test_first_use_makes_a_private_file_with_a_value_for_every_secret(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    before = os.umask(0)
    try:
        said = env_file.ensure_env_file(file, EXAMPLE)
    finally:
        os.umask(before)
    assert "is made" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]

    values = env_file.values_of(file.read_text())
    asked = [line.name for line in env_file.read_lines(EXAMPLE) if line.is_set]
    assert list(values) == asked
    assert len(set(values.values())) == len(asked)
    assert all(len(value) >= 44 for value in values.values())
    assert Fernet(values["FERNET_KEY"]).encrypt(b"usable")


def test_a_value_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nADMIN_PASSWORD=chosen\nMF_SCHEDULE='0 3 * * *'\nJWT_SECRET=\nOTHER=\n")
    said = env_file.ensure_env_file(file, EXAMPLE)
    assert "METADATA_PASSWORD" in said
    text = file.read_text()
    assert text.startswith("# mine\nADMIN_PASSWORD=chosen\nMF_SCHEDULE='0 3 * * *'\nJWT_SECRET=")
    values = env_file.values_of(text)
    assert values["ADMIN_PASSWORD"] == "chosen"
    assert values["MF_SCHEDULE"] == "0 3 * * *"
    # An empty line that the stack needs is filled; any other stays as it is.
    assert values["JWT_SECRET"]
    assert values["OTHER"] == ""

    assert env_file.ensure_env_file(file, EXAMPLE) == ""
    assert file.read_text() == text


def test_what_a_newer_example_has_is_added_with_its_comment(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    env_file.ensure_env_file(file, EXAMPLE)
    old = file.read_text()
    newer = EXAMPLE + "# Password of something new.\nNEW_PASSWORD=\n# NEW_PORT=1\n"
    assert "NEW_PASSWORD, NEW_PORT" in env_file.ensure_env_file(file, newer)
    added = file.read_text().removeprefix(old).splitlines()
    assert added[0] == "# Password of something new."
    assert added[1].startswith("NEW_PASSWORD=")
    assert len(added[1]) > 40
    assert added[2:] == ["# NEW_PORT=1"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}}, ""),
        ({"Status": "running", "ExitCode": 0}, ""),
        ({"Status": "running", "ExitCode": 0, "Health": {"Status": "unhealthy"}}, "is unhealthy"),
        ({"Status": "restarting", "ExitCode": 2}, "is restarting (exit code 2)"),
    ],
)
def test_a_service_is_well_or_it_is_said_what_it_is(
    compose_up: Any, state: dict[str, Any], said: str
) -> None:
    assert compose_up.trouble({"State": state}) == said
    assert compose_up.trouble(None) == "has no container"


def test_without_docker_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "up"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "compose-up: expected Docker, found no command `docker`: install it\n"


def test_each_image_is_built_once() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    built = {name: service["image"] for name, service in services.items() if "build" in service}
    # All others wait for `init`, so none starts from an image that is not there.
    assert built == {"init": "mf-retrain:service", "worker-gpu": "mf-retrain:cpu"}
    own = [service for service in services.values() if service["image"] == "mf-retrain:service"]
    assert len(own) == 5
    override = yaml.safe_load((ROOT / "docker" / "docker-compose.gpu.yaml").read_text())["services"]
    assert override["worker-gpu"]["build"]["args"]["PACKAGES"] == "gpu"
    assert override["worker-gpu"]["image"] == "mf-retrain:gpu"


def test_values_are_read_as_compose_reads_them() -> None:
    text = (
        "A=10.0.0.5        # a comment\nB='quoted # not one' # one\nC=\"x\"y'\"\nD=p#w\n"
        'E=it\'s\nF=""\nG= # none\nexport H=h\n# I=i\n'
    )
    values = env_file.values_of(text)
    assert values == {
        "A": "10.0.0.5",
        "B": "quoted # not one",
        "C": "x\"y'",
        "D": "p#w",
        "E": "it's",
        "F": "",
        "G": "",
        "H": "h",
    }


def test_the_lines_of_the_page_are_read(compose_up: Any) -> None:
    page = (ROOT / "docs" / "howto" / "second-host.md").read_text()
    block = page.partition("On the first host, in `.env`")[2].partition("    AIRFLOW_BIND")
    values = env_file.values_of(
        "\n".join(line.strip() for line in "".join(block[1:]).partition("\n\n")[0].splitlines())
    )
    assert values == {
        "AIRFLOW_BIND": "10.0.0.5",
        "REDIS_BIND": "10.0.0.5",
        "MF_ARTIFACT_ROOT": "s3://bucket/mf",
    }
    assert compose_up.addresses(values).airflow == "http://10.0.0.5:8080"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# REDIS_PASSWORD=old",
        "export REDIS_PASSWORD=",
        'REDIS_PASSWORD=""',
        "REDIS_PASSWORD= #",
    ],
)
def test_a_secret_without_a_value_gets_one(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"ADMIN_PASSWORD=chosen\n{line}\n")
    env_file.ensure_env_file(file, EXAMPLE)
    values = env_file.values_of(file.read_text())
    assert len(values["REDIS_PASSWORD"]) > 40
    assert values["ADMIN_PASSWORD"] == "chosen"
    assert env_file.ensure_env_file(file, EXAMPLE) == ""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: Any) -> Path:
    """An empty folder in the place of the repository, whose stack has left nothing in Docker."""
    monkeypatch.setattr(stack_files, "ROOT", tmp_path)
    monkeypatch.setattr(stack_files, "ENV_FILE", tmp_path / ".env")
    monkeypatch.setattr(stack_files, "SECRETS", tmp_path / "secrets")
    (tmp_path / ".env").write_text("")
    for name in (*env_file.asked(EXAMPLE), "MF_ALERT_WEBHOOK", "MF_ARTIFACT_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_an_empty_secret_of_the_environment_is_refused(checkout: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "")
    with pytest.raises(StackError, match=r"a value for REDIS_PASSWORD, .* environment"):
        stack_files.make_files()


def test_a_folder_in_the_place_of_a_secret_is_refused(checkout: Path) -> None:
    (checkout / "secrets" / "JWT_SECRET").mkdir(parents=True)
    with pytest.raises(StackError, match=r"found a folder.* rmdir .*/secrets/JWT_SECRET"):
        stack_files.make_files()


@pytest.mark.parametrize(
    ("lines", "written"),
    [
        ("", None),
        ("MF_ARTIFACT_ROOT=file:///var/lib/mf/artifacts", None),
        ("MF_ARTIFACT_ROOT=s3://bucket/mf  # a bucket", "false"),
        ("MF_ALERT_WEBHOOK=https://example.org/token", "false"),
        ("MF_ARTIFACT_ROOT=s3://bucket/mf\nTRAINING_IS_SHUT=true", "true"),
    ],
)
def test_training_gets_out_where_it_has_to_and_compose_reads_that(
    checkout: Path, lines: str, written: str | None
) -> None:
    (checkout / ".env").write_text(lines)
    for _ in range(2):
        stack_files.make_files()
        text = (checkout / ".env").read_text()
        assert env_file.values_of(text).get("TRAINING_IS_SHUT") == written
        # The line of the example, and one that says so.
        assert text.count("TRAINING_IS_SHUT=") <= 2


def test_the_address_of_the_alerts_is_a_secret(checkout: Path, monkeypatch: Any) -> None:
    alerts = checkout / "secrets" / "ALERTS.env"
    (checkout / ".env").write_text("MF_ALERT_WEBHOOK=https://example.org/token\n")
    stack_files.make_files()
    assert alerts.read_text() == "MF_ALERT_WEBHOOK=https://example.org/token\n"
    monkeypatch.setenv("MF_ALERT_WEBHOOK", "")
    stack_files.make_files()
    assert alerts.read_text() == ""


def test_images_say_which_version_they_are(compose_up: Any) -> None:
    assert compose_up.image_labels({})["MF_VERSION"] == mf_core.__version__
    assert compose_up.image_labels({"MF_VERSION": "mine"})["MF_VERSION"] == "mine"


def test_secrets_are_files_in_a_folder_for_the_owner(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    settings = {"AWS_ACCESS_KEY_ID": "key", "MF_SCHEDULE": "0 2 * * *", "GOOGLE_X": "a=b"}
    before = os.umask(0o077)
    try:
        secret_files.write_secrets(folder, {"ADMIN_PASSWORD": "secret"}, settings)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {
        "ADMIN_PASSWORD": 0o444,
        "ALERTS.env": 0o444,
        "OBJECT_STORE.env": 0o444,
    }
    text = (folder / "OBJECT_STORE.env").read_text()
    assert text == "AWS_ACCESS_KEY_ID=key\nGOOGLE_X=a=b\n"


def _started(seconds: float, *secrets: str) -> dict[str, Any]:
    """Return what Docker says of a container that was started then, with some secrets."""
    when = datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "000Z")
    mounts = [{"Destination": f"/run/secrets/{name}"} for name in secrets]
    return {"State": {"StartedAt": when}, "Mounts": [*mounts, {"Destination": "/data"}]}


def test_who_reads_a_changed_secret_or_certificate_is_started_again(tmp_path: Path) -> None:
    secrets, tls = tmp_path / "secrets", tmp_path / "tls"
    tls.mkdir()
    (tls / "redis.crt").write_text("old")
    secret_files.write_secrets(secrets, {"A": "1", "B": "1"}, {})
    time.sleep(0.05)
    started = time.time()
    time.sleep(0.05)

    def old(*names: str) -> bool:
        return secret_files.has_older(_started(started, *names), (secrets, tls))

    secret_files.write_secrets(secrets, {"A": "1", "B": "2"}, {})
    assert not old("A", "OBJECT_STORE.env", "redis.crt")
    assert old("A", "B")
    renewed = tmp_path / "renewed"
    renewed.write_text("new")
    # A copy may bring an old time along.
    os.utime(renewed, (1, 1))
    shutil.copy2(renewed, tls / "redis.crt")
    assert old("redis.crt")
    assert not secret_files.has_older(_started(time.time() + 1, "B", "redis.crt"), (secrets, tls))


def test_a_password_reaches_the_broker_s_logins_whatever_it_holds(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "REDIS_PASSWORD").write_text("with a space >and ~* é")
    users = tmp_path / "users.acl"
    script = (ROOT / "docker" / "redis.sh").read_text()
    script = script.replace("/run/secrets", str(secrets)).replace("/tmp/users.acl", str(users))
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script], env=environment, capture_output=True, text=True, check=False
        )

    # A secret that is missing or empty is no password.
    done = run()
    assert done.returncode
    assert "REDIS_TRAINING_PASSWORD" in done.stderr
    (secrets / "REDIS_TRAINING_PASSWORD").write_text("")
    done = run()
    assert done.returncode
    assert "REDIS_TRAINING_PASSWORD" in done.stderr
    assert not users.exists()

    (secrets / "REDIS_TRAINING_PASSWORD").write_text("other\n")
    assert run().returncode == 0
    rows = [row.split() for row in users.read_text().splitlines()]
    hashed = [
        hashlib.sha256(text.encode()).hexdigest() for text in ("with a space >and ~* é", "other")
    ]
    assert [row[3] for row in rows] == [f"#{digest}" for digest in hashed]


def test_a_container_s_command_gets_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "PASSWORD").write_text("a/b%c é\n")
    (tmp_path / "STORE.env").write_text("AWS_SECRET_ACCESS_KEY=x=y\n")
    environment = {"URL": "redis://:<PASSWORD>@redis", "PLAIN": "<PASSWORD>", "OTHER": "<x> $y"}
    assert with_secrets.filled(environment, tmp_path) == {
        "URL": "redis://:a%2Fb%25c%20%C3%A9@redis",
        "PLAIN": "a/b%c é",
        "OTHER": "<x> $y",
        "AWS_SECRET_ACCESS_KEY": "x=y",
    }
    with pytest.raises(FileNotFoundError, match="MISSING"):
        with_secrets.filled({"URL": "<MISSING>"}, tmp_path)


def test_the_inventory_lists_what_is_installed() -> None:
    components = {component["purl"]: component for component in inventory.python_packages()}
    airflow = importlib.metadata.version("apache-airflow")
    assert components[f"pkg:pypi/apache-airflow@{airflow}"]["version"] == airflow
    assert len(components) > 100
    json.dumps(inventory.inventory())
