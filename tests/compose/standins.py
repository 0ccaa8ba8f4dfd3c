"""Stand-ins for the base images of the compose stack, for a machine that can't pull them.

One root filesystem of Debian packages becomes three images: Python, Postgres and Redis. An image
that is there already, such as the real one, is left alone and used.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RECIPES = Path(__file__).parent / "standins"
ROOT_IMAGE = "mf-standin-root"
# What docker/Dockerfile and docker-compose.yaml begin from, and the stage that stands in for it.
BASES = {
    "python:3.12-slim": "python",
    "postgres:18": "postgres",
    "redis:7.2-bookworm": "redis",
}
PACKAGES = ("ca-certificates", "python3", "python3-pip", "postgresql", "redis-server")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What of the host's pip settings holds in a container too: addresses, and no path.
PIP_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "timeout", "proxy"}


def images() -> dict[str, str]:
    """Return the ids of all tagged images by name."""
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    pairs = [line.split() for line in listed]
    return {name: identity for name, identity in pairs if "<none>" not in name}


def docker(*arguments: str) -> str:
    """Run a command of Docker and return what it prints. Raises CalledProcessError."""
    command = ["docker", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def says(*arguments: str) -> str:
    """Run a command of Docker, well or not, and return what it prints on both streams."""
    command = ["docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def host_address() -> str:
    """Return the address of this host that others reach it by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the kernel only chooses the way.
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@contextmanager
def talk(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of Docker that waits for its standard input to end."""
    command = ["docker", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def make_missing() -> list[str]:
    """Make a stand-in for every base image that is not there, and return their names."""
    missing = [name for name in BASES if name not in images()]
    if not missing:
        return []

    with tempfile.TemporaryDirectory(prefix="mf-standins-") as folder:
        if f"{ROOT_IMAGE}:latest" not in images():
            _import_root(Path(folder) / "root")
        context = Path(folder) / "context"
        shutil.copytree(RECIPES, context)
        shutil.copy(CERTIFICATES, context / CERTIFICATES.name)
        (context / "pip.conf").write_text(pip_settings())
        for name in missing:
            docker("build", "--quiet", "--target", BASES[name], "--tag", name, str(context))
    return missing


def pip_settings() -> str:
    """Return the host's settings of pip as a file for a container."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = ["[global]", f"cert = {CERTIFICATES}"]
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        usable = [part for part in value.strip("'\"").split() if not part.startswith("file:")]
        if setting in PIP_SETTINGS and usable:
            rows.append(f"{setting} = {' '.join(usable)}")
    return "\n".join(rows) + "\n"


def _import_root(root: Path) -> None:
    """Make an image of Debian packages by debootstrap, from the mirror that it takes by itself."""
    names = f"--include={','.join(PACKAGES)}"
    with _unmounted(root):
        _run(["debootstrap", "--variant=minbase", names, "bookworm", str(root)])
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()

    packing = ["tar", "-C", str(root), "--numeric-owner", "-cf", "-", "."]
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as tar:
        importing = ["docker", "import", "-", ROOT_IMAGE]
        subprocess.run(importing, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
    if tar.returncode:
        raise RuntimeError(f"expected that tar packs {root}, it ended with {tar.returncode}")


@contextmanager
def _unmounted(root: Path) -> Iterator[None]:
    """Leave no mount of debootstrap below `root`, whatever happens."""
    try:
        yield
    finally:
        for below in ("sys", "proc"):
            while (root / below).is_mount():
                subprocess.run(["umount", "--lazy", str(root / below)], check=True)


def _run(command: Sequence[str]) -> None:
    """Run a command whose output matters only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{end}")
