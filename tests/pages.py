"""The commands of a page, run as they stand there: so the page and the test can't part."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a machine with the package has on its PATH.
_PROGRAMS = {
    "python": "",
    "mf": f"-c {shlex.quote('from mf_core.cli import main; main()')}",
    "airflow": "-m airflow",
}


def commands(page: str, heading: str) -> list[str]:
    """Return the blocks of commands (```sh) under a heading of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"{page} has no heading {heading}"
    found = _BLOCK.findall(section[1])
    assert found, f"{page}, {heading}: no commands"
    return found


def run(block: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Run a block in bash, which stops at the first command that fails; return what it prints.

    Args:
        block: the commands.
        folder: where they run; programs of the project are put there.
        environ: what is set beside the environment of the tests; PATH is put before theirs.
    """
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, arguments in _PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
    path = [str(programs), environ.get("PATH", ""), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env={**os.environ, **environ, "PATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout
