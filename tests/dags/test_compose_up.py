"""docker/compose.py: what it makes of .env, and what it says; `make test-compose` runs it whole."""

import importlib.metadata
import importlib.util
import json
import os
import stat
import subprocess
import sys
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
import with_secrets

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


def test_first_use_makes_a_private_file_with_a_value_for_every_secret(
    compose_up: Any, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    before = os.umask(0)
    try:
        said = compose_up.ensure_env_file(file, EXAMPLE)
    finally:
        os.umask(before)
    assert "is made" in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]

    values = compose_up.values_of(file.read_text())
    asked = [line.name for line in env_file.read_lines(EXAMPLE) if line.is_set]
    assert list(values) == asked
    assert len(set(values.values())) == len(asked)
    assert all(len(value) >= 44 for value in values.values())
    assert Fernet(values["FERNET_KEY"]).encrypt(b"usable")


def test_a_value_is_never_overwritten(compose_up: Any, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nADMIN_PASSWORD=chosen\nMF_SCHEDULE='0 3 * * *'\nJWT_SECRET=\nOTHER=\n")
    said = compose_up.ensure_env_file(file, EXAMPLE)
    assert "METADATA_PASSWORD" in said
    text = file.read_text()
    assert text.startswith("# mine\nADMIN_PASSWORD=chosen\nMF_SCHEDULE='0 3 * * *'\nJWT_SECRET=")
    values = compose_up.values_of(text)
    assert values["ADMIN_PASSWORD"] == "chosen"
    assert values["MF_SCHEDULE"] == "0 3 * * *"
    # An empty line that the stack needs is filled; any other stays as it is.
    assert values["JWT_SECRET"]
    assert values["OTHER"] == ""

    assert compose_up.ensure_env_file(file, EXAMPLE) == ""
    assert file.read_text() == text


def test_what_a_newer_example_has_is_added_with_its_comment(
    compose_up: Any, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    compose_up.ensure_env_file(file, EXAMPLE)
    old = file.read_text()
    newer = EXAMPLE + "# Password of something new.\nNEW_PASSWORD=\n# NEW_PORT=1\n"
    assert "NEW_PASSWORD, NEW_PORT" in compose_up.ensure_env_file(file, newer)
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


def test_secrets_are_files_in_a_folder_for_the_owner(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    settings = {"AWS_ACCESS_KEY_ID": "key", "MF_SCHEDULE": "0 2 * * *", "GOOGLE_X": "a=b"}
    before = os.umask(0o077)
    try:
        secret_files.write_secrets(folder, {"ADMIN_PASSWORD": "secret"}, settings)
        first = secret_files.fingerprint(folder)
        secret_files.write_secrets(folder, {"ADMIN_PASSWORD": "secret"}, settings)
        assert secret_files.fingerprint(folder) == first
        secret_files.write_secrets(folder, {"ADMIN_PASSWORD": "another"}, settings)
    finally:
        os.umask(before)
    assert secret_files.fingerprint(folder) != first
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {
        "ADMIN_PASSWORD": 0o444,
        "OBJECT_STORE.env": 0o444,
    }
    text = (folder / "OBJECT_STORE.env").read_text()
    assert text == "AWS_ACCESS_KEY_ID=key\nGOOGLE_X=a=b\n"


@pytest.mark.parametrize(
    ("values", "shut"),
    [
        ({}, "true"),
        ({"MF_ARTIFACT_ROOT": "file:///var/lib/mf/artifacts"}, "true"),
        ({"MF_ARTIFACT_ROOT": "s3://bucket/mf"}, "false"),
        ({"MF_ALERT_WEBHOOK": "https://example.org"}, "false"),
        ({"MF_ARTIFACT_ROOT": "s3://bucket/mf", "TRAINING_IS_SHUT": "true"}, "true"),
    ],
)
def test_training_gets_out_where_it_has_to(
    compose_up: Any, tmp_path: Path, monkeypatch: Any, values: dict[str, str], shut: str
) -> None:
    monkeypatch.setattr(compose_up, "SECRETS", tmp_path)
    found = compose_up.derived(values)
    assert found["TRAINING_IS_SHUT"] == shut
    assert found["MF_VERSION"] == mf_core.__version__


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
