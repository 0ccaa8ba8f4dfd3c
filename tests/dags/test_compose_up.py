"""docker/compose.py: what it makes of .env, and what it says; `make test-compose` runs it whole."""

import importlib.util
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
    asked = [line.name for line in compose_up.read_lines(EXAMPLE) if line.is_set]
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
    (builder,) = [name for name, service in services.items() if "build" in service]
    # All others wait for it, so none starts from an image that is not there.
    assert builder == "init"
    own = [service for service in services.values() if service["image"] == "mf-retrain:cpu"]
    assert len(own) == 6
    override = yaml.safe_load((ROOT / "docker" / "docker-compose.gpu.yaml").read_text())["services"]
    assert override["worker-gpu"]["build"]["target"] == "gpu"
    assert override["worker-gpu"]["image"] != services["init"]["image"]
