"""Docker Compose as a command: in either of its forms, on this repository's files."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOG_LINES = 15


class StackError(Exception):
    """What was expected, what came, and what to do."""


class Compose:
    """Docker Compose, in either of its forms, on this repository's files."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._command = find_compose()
        self._environment = dict(environment)

    def run(self, *arguments: str, stdin: str | None = None) -> None:
        """Run a command that speaks for itself. Raises StackError if it fails."""
        sys.stdout.flush()
        command = [*self._command, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, input=stdin, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"`{' '.join(command)}` failed; what it said stands above")

    def read(self, *arguments: str) -> str:
        """Return what a command prints. Raises StackError if it fails."""
        return output([*self._command, *arguments], self._environment)

    def services(self) -> list[str]:
        """Return the names of all services."""
        return sorted(self.read("config", "--services").split())

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what Docker knows of a service's containers."""
        ids = self.read("ps", "--quiet", service).split()
        if not ids:
            return []
        found: list[dict[str, Any]] = json.loads(
            output(["docker", "inspect", *ids], self._environment)
        )
        return found

    def container(self, service: str) -> dict[str, Any] | None:
        """Return what Docker knows of the first container of a service; None: there is none."""
        return next(iter(self.containers(service)), None)

    def last_lines(self, service: str) -> str:
        """Return the end of a service's log."""
        shown = self.read("logs", "--no-color", f"--tail={LOG_LINES}", service)
        return shown.strip()


def output(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what a command prints. Raises StackError if it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def find_compose() -> list[str]:
    """Return the command of Compose. Raises StackError where Docker or Compose is missing."""
    if shutil.which("docker") is None:
        raise StackError("expected Docker, found no command `docker`: install it")
    daemon = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    if daemon.returncode:
        raise StackError(f"expected a running Docker daemon: {daemon.stderr.strip()}")

    plugin = ["docker", "compose"]
    if not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        return plugin
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise StackError("expected `docker compose` or `docker-compose`, found neither: install one")


def project_name() -> str:
    """Return the name that compose gives the stack of this folder."""
    given = os.environ.get("COMPOSE_PROJECT_NAME")
    return given or re.sub(r"[^-_a-z0-9]", "", ROOT.name.lower()).lstrip("-_")
