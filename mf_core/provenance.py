"""Which code and which settings a result comes from.

A version number says too little: it is the same in every commit between two releases. So the
sources that shape a result are hashed, and the hash stands beside the version wherever a result is
recognised or recorded.
"""

import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path

from mf_core import __version__
from mf_core.config import Config

_PACKAGE = Path(__file__).parent

MODEL_SOURCES = (
    "config",
    "data",
    "models",
    "solvers",
    "training",
    "judging/metrics.py",
    "judging/popularity.py",
)
"""Files and folders of `mf_core` that shape a trained model; the last two by a search."""

RESULT_SOURCES = (
    *MODEL_SOURCES,
    "judging",
    "publishing",
    "warehouse/readers.sql",
    "warehouse/look_ups.sql",
)
"""Those that shape what readers get."""


@cache
def source_hash(sources: tuple[str, ...] = RESULT_SOURCES) -> str:
    """Return the sha256 (12 hex digits) over the names and contents of `sources`."""
    digest = hashlib.sha256()
    for source in sources:
        for path in _files(_PACKAGE / source):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in (".py", ".sql"))
    if not found:
        raise FileNotFoundError(f"expected sources at {path}, found none; install mf_core again.")
    return found


@cache
def git_commit() -> str | None:
    """Return the commit of the checkout that mf_core lies in; None where it is installed."""
    if not (_PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(_PACKAGE.parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of somebody else's
        return None
    return done.stdout.strip() or None


def code_version() -> str:
    """Return the version with the sources' hash and the commit, such as `0.2.0+1f2e3d4c.g5b6a`."""
    commit = git_commit()
    return f"{__version__}+{source_hash()}" + (f".g{commit}" if commit else "")


def result_fingerprint(config: Config) -> str:
    """Return the sha256 (hex) over the settings and the code that shape a version's result.

    Two runs over one snapshot with equal fingerprints publish the same lists.
    """
    parts = [config.fingerprint("model", "lists"), source_hash()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
