"""The console is registered once, and its page is served, however it comes into an Airflow."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mf_core

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
STATIC = PLUGINS / "mf_console" / "static"
PAGES = {"/mf/": "console.html", "/mf/console.js": "console.js", "/mf/console.css": "console.css"}
FROM_FOLDER = "$PLUGINS_FOLDER/register_mf_console.py"
FROM_PACKAGE = (
    f"mf-retrain=={mf_core.__version__}: EntryPoint(name='mf_console', "
    "value='mf_console.plugin:MatrixFactorizationConsole', group='airflow.plugins')"
)

Probe = Callable[..., dict[str, Any]]


def run_pip(*arguments: str | Path) -> None:
    """Run pip here, without a network."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, arguments)], check=True, timeout=120)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed from a wheel, built of a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("mf_core", "plugins"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run_pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("mf_retrain-*.whl")
    run_pip("install", "--no-deps", "--target", folder / "installed", wheel)
    return folder / "installed"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is installed here except the project itself."""
    folder = tmp_path_factory.mktemp("others")
    for place in sys.path:
        if Path(place).name != "site-packages":
            continue
        for entry in Path(place).iterdir():
            link = folder / entry.name
            if "mf_retrain" not in entry.name and not link.exists():
                link.symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def probe(others: Path, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Ask an Airflow in a process of its own, with these folders in front of what is installed."""
    home = tmp_path_factory.mktemp("home")

    def _probe(plugins_folder: Path, *import_from: Path) -> dict[str, Any]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (*import_from, others))),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests ".ljust(64, "x"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins_folder),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ada:viewer",
        }
        # -S: the environment's own site-packages would bring the project in once more.
        script = str(ROOT / "tests" / "plugins" / "probe_console.py")
        done = subprocess.run(
            [sys.executable, "-S", "-P", script],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment,
            cwd=home,
        )
        assert done.returncode == 0, done.stderr
        assert "already registered" not in done.stderr + done.stdout
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return _probe


def check_console(found: dict[str, Any], source: str, static: Path) -> None:
    """Check for one plugin, without an error, with its page and with the files in `static`."""
    assert found["registered"] == [{"module": "mf_console.plugin", "source": source}]
    assert found["import_errors"] == {}
    assert found["views"] == ["/mf/"]
    assert Path(found["static"]) == static
    assert found["pages"] == {path: (STATIC / name).read_text() for path, name in PAGES.items()}


def test_an_installed_package_brings_the_console(
    probe: Probe, installed: Path, tmp_path: Path
) -> None:
    found = probe(tmp_path / "no_plugins", installed)
    check_console(found, FROM_PACKAGE, installed / "mf_console" / "static")


def test_the_folder_alone_brings_the_console(probe: Probe, tmp_path: Path) -> None:
    (tmp_path / "mf_core").symlink_to(ROOT / "mf_core")
    found = probe(PLUGINS, tmp_path)
    check_console(found, FROM_FOLDER, STATIC)


def test_folder_and_package_together_bring_it_once(probe: Probe, installed: Path) -> None:
    found = probe(PLUGINS, installed)
    check_console(found, FROM_PACKAGE, installed / "mf_console" / "static")
