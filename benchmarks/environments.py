"""The peers' own environments: one virtual environment each, with pinned versions, made once.

They are built with the interpreter that runs this. A peer that comes as source is compiled for this
machine: LIBMF's own build uses no vector instructions, and to compare with that would not be fair.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent


class PeerUnavailableError(RuntimeError):
    """A peer cannot be installed or run here; the text says why, and what to do."""


@dataclass(frozen=True)
class Environment:
    """What one environment holds.

    Attributes:
        requirements: pinned packages, in pip's syntax.
        build: packages that building from source needs in the environment itself.
        variables: environment variables of the build.
        imports: what must import once it is there.
        needs: a program that must be on PATH, and what to do where it is not.
    """

    requirements: tuple[str, ...]
    imports: str
    build: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, str] | None = None


_COMPILER = (
    "gcc",
    (
        "It is compiled from source: install a C/C++ compiler "
        "(Debian and Ubuntu: apt install build-essential python3-dev)."
    ),
)
ENVIRONMENTS = {
    "myfm": Environment(
        requirements=(
            "myfm==0.4.0",
            "numpy==2.4.6",
            "scipy==1.17.1",
            "pandas==3.1.1",
            "setuptools==80.9.0",
        ),
        imports="myfm",
    ),
    "cornac": Environment(
        requirements=("cornac==3.0.1", "numpy==2.4.6", "scipy==1.17.1"),
        imports="cornac.models",
    ),
    "libmf": Environment(
        requirements=("libmf==0.9.2", "numpy==2.4.6"),
        imports="libmf.mf",
        build=("setuptools==80.9.0", "wheel==0.46.1"),
        variables={"CFLAGS": "-O3 -march=native -DUSEAVX -DUSEOMP -fopenmp"},
        needs=_COMPILER,
    ),
    # Its own build compiles with -O3 -march=native and OpenMP.
    "cmfrec": Environment(
        requirements=(
            "cmfrec==3.5.1.post14",
            "numpy==2.4.6",
            "scipy==1.17.1",
            "pandas==3.1.1",
            "threadpoolctl==3.6.0",
        ),
        imports="cmfrec",
        needs=_COMPILER,
    ),
    "surprise": Environment(
        requirements=("scikit-surprise==1.1.5", "numpy==2.4.6", "scipy==1.17.1"),
        imports="surprise",
    ),
    "spark": Environment(
        requirements=("pyspark==4.3.0", "numpy==2.4.6", "pandas==2.3.3", "pyarrow==26.0.1"),
        imports="pyspark.ml",
        needs=(
            "java",
            (
                "Spark needs Java 17 or newer "
                "(Debian and Ubuntu: apt install openjdk-17-jre-headless)."
            ),
        ),
    ),
    # EASE and its kin, RP3beta, popularity and biases are a few lines of it.
    "linear": Environment(requirements=("numpy==2.4.6",), imports="numpy"),
    "implicit": Environment(
        requirements=("implicit==0.7.3", "numpy==2.4.6", "scipy==1.17.1"),
        imports="implicit.als",
    ),
    # It reads the set of lecturers.
    "rdata": Environment(
        requirements=("rdata==1.1.0", "numpy==2.4.6", "pandas==2.3.3"),
        imports="rdata",
    ),
    "plot": Environment(requirements=("matplotlib==3.11.2",), imports="matplotlib"),
}


def cache_folder() -> Path:
    """Return where environments and generated data lie: MF_BENCH_DIR, else var/benchmarks."""
    named = os.environ.get("MF_BENCH_DIR")
    if named:
        return Path(named)
    return ROOT / "var" / "benchmarks"


def python_of(name: str) -> Path:
    """Return the interpreter of environment `name`, which is made if it is not there yet.

    Raises:
        PeerUnavailableError: a program is missing, or the installation failed; with pip's last
            lines.
    """
    wanted = ENVIRONMENTS[name]
    if wanted.needs is not None:
        program, advice = wanted.needs
        if not shutil.which(program):
            raise PeerUnavailableError(f"no `{program}` on PATH. {advice}")

    folder = cache_folder() / "envs" / name
    # Written last, so that a half-made environment is made again; so is one of other versions.
    stamp = folder / "installed.txt"
    if not (stamp.exists() and stamp.read_text() == repr(wanted)):
        print(f"installing {', '.join(wanted.requirements)} into {folder} (once) ...", flush=True)
        stamp.unlink(missing_ok=True)
        _make(name, wanted, folder)
        stamp.write_text(repr(wanted))
    return _python_in(folder)


def _python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def _make(name: str, wanted: Environment, folder: Path) -> None:
    """Make the virtual environment in `folder`, and see that the peer imports.

    Raises:
        PeerUnavailableError: one of the steps failed.
    """
    python = str(_python_in(folder))
    _run(name, [sys.executable, "-m", "venv", "--clear", str(folder)])

    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if wanted.build:
        _run(name, [*pip, *wanted.build])
        # With isolation pip would build with the newest of these packages, not with the pinned.
        pip.append("--no-build-isolation")
    _run(name, [*pip, *wanted.requirements], wanted.variables)

    # A package may install well and still lack a library of the machine's.
    _run(name, [python, "-c", f"import {wanted.imports}"])


def _run(name: str, command: list[str], variables: Mapping[str, str] | None = None) -> None:
    # From an empty folder: some packages import what lies in the current one.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=folder,
            env={**clean_environment(), **(variables or {})},
        )
    if done.returncode == 0:
        return

    output = (done.stdout + done.stderr).strip()
    last_lines = "\n  ".join(output.splitlines()[-15:])
    start = " ".join(command[:6])
    raise PeerUnavailableError(
        f"the environment of {name} could not be made; `{start} ...` said:\n  {last_lines}"
    )


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what leads a peer's Python to our packages."""
    environment = dict(os.environ)
    for ours in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(ours, None)
    return environment
