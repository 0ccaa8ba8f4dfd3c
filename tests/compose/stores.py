"""Artifacts in an object store: a real S3 server beside the stack, named in `.env`."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from demo.processes import free_port, wait_until
from tests.compose import standins
from tests.compose.doors import SERVICES
from tests.compose.trial import Trial, expect

BUCKET = "mf-bucket"
SETTINGS = """
MF_ARTIFACT_ROOT=s3://{bucket}/mf
AWS_ENDPOINT_URL={address}
AWS_ACCESS_KEY_ID=key
AWS_SECRET_ACCESS_KEY=very-secret-key
AWS_DEFAULT_REGION=us-east-1
"""

MAKE_BUCKET = """
import s3fs
s3fs.S3FileSystem().mkdir({bucket!r})
"""

# The settings of the service say where.
USE = """
import os
from upath import UPath
from mf_core.data.artifacts import read_file, read_unchecked_manifest, write_artifact
from mf_core.data.store import try_store
root = os.environ["MF_ARTIFACT_ROOT"]
try_store(UPath(root))
uri = root + "/trials/{service}"
write_artifact(uri, {{"greeting": b"hello"}}, {{}})
print(read_file(uri, "greeting", read_unchecked_manifest(uri)).decode())
print(os.environ["AWS_SECRET_ACCESS_KEY"])
"""


def artifacts_in_an_object_store(trial: Trial) -> str:
    """Name an object store in `.env`: both kinds of worker write to it and read from it."""
    with _s3_server() as address:
        file = trial.clone / ".env"
        file.write_text(file.read_text() + SETTINGS.format(bucket=BUCKET, address=address))
        trial.make("compose-up")
        trial.python("worker", MAKE_BUCKET.format(bucket=BUCKET))
        for service in ("worker", "worker-gpu"):
            said = trial.python(service, USE.format(service=service)).split()
            expect(said == ["hello", "very-secret-key"], f"{service} says {said}")
        _by_hand(trial)
    for service in ("api-server", "scheduler", "dag-processor"):
        told = standins.docker("inspect", trial.container(service))
        expect("OBJECT_STORE" not in told, f"{service} has the keys of the store")
    return "both kinds of worker write to S3 and read it again; the others have no key of it"


def _by_hand(trial: Trial) -> None:
    """Start the stack with Compose itself: it is the stack that compose-up has made."""
    before = {service: trial.containers(service) for service in SERVICES}
    trial.compose("up", "--detach", "--no-build")
    after = {service: trial.containers(service) for service in SERVICES}
    expect(before == after, "Compose by itself makes another stack of the same files")


@contextmanager
def _s3_server() -> Iterator[str]:
    """Run an S3 server that containers reach, and give its address."""
    host, port = standins.host_address(), free_port(0)
    command = [sys.executable, "-m", "moto.server", "--host", "0.0.0.0", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            expect(wait_until(lambda: _answers(host, port), 60), "no S3 server")
            yield f"http://{host}:{port}"
        finally:
            server.terminate()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
