"""A real S3 server in a process of its own, and a door before it at which requests can be hit.

The server is moto's. It listens on a port of its own; clients come through the door, which counts
their requests, lets somebody act before one is passed on or before it is answered, and can be shut
or left without an answer.
"""

import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import botocore.session
import fsspec

from demo.processes import free_port

Moment = Literal["before", "after"]
Act = Callable[[str, str, Moment], int | None]
"""Called with the method and the path (`/BUCKET/KEY`, decoded, without the query) of a request.

What it returns is the status to answer with instead of the server's; None: the server's.
"""

BUCKET = "artifacts"
KEY, SECRET = "testing-key", "testing-secret-0123456789"
_STARTS_IN = 30.0
_REFUSALS = {
    403: "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
    503: "<Error><Code>ServiceUnavailable</Code><Message>Try later</Message></Error>",
}
# How botocore is told where S3 is and who asks.
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class _Handler(BaseHTTPRequestHandler):
    """Passes a request on to the server, and its answer back."""

    protocol_version = "HTTP/1.1"
    # Small answers are sent at once.
    disable_nagle_algorithm = True
    server: "Door"

    def _pass_on(self) -> None:
        path = unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.silence.wait()
        if status := self.server.act(self.command, path, "before"):
            self._refuse(status)
            return

        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if status := self.server.act(self.command, path, "after"):
            self._refuse(status)
            return

        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        # The answer to HEAD tells a length and has no body.
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int) -> None:
        self.send_response_only(status)
        content = _REFUSALS.get(status, "").encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Door(ThreadingHTTPServer):
    """Stands before the server on a port of its own."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.silence = threading.Event()
        self.silence.set()
        self.act: Act = _nothing

    @property
    def url(self) -> str:
        """Where clients find S3."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients are killed here in the middle of a request."""

    @contextmanager
    def acting(self, act: Act) -> Iterator[None]:
        """Have `act` called at every request within the block."""
        self.act = act
        try:
            yield
        finally:
            self.act = _nothing

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Take requests and answer none within the block."""
        self.silence.clear()
        try:
            yield
        finally:
            self.silence.set()


def _nothing(_method: str, _path: str, _moment: Moment) -> None:
    """Let a request pass."""


@contextmanager
def s3_server(folder: Path) -> Iterator[Door]:
    """Run a server with the bucket `BUCKET`, and give its door.

    Its log is put into `folder`.
    """
    port = free_port(0)
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    door = Door(port)
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.02})
    try:
        _wait_for(port, process)
        thread.start()
        backdoor(door).mkdir(BUCKET)
        yield door
    finally:
        if thread.is_alive():
            door.shutdown()
            thread.join()
        door.server_close()
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _STARTS_IN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "moto's server has ended; see its log"
            assert time.monotonic() < deadline, "moto's server does not listen"
            time.sleep(0.05)


def backdoor(door: Door) -> Any:
    """Return a client that does not come through the door."""
    return fsspec.filesystem(
        "s3",
        endpoint_url=f"http://127.0.0.1:{door.behind}",
        key=KEY,
        secret=SECRET,
        use_listings_cache=False,
    )


def keys_below(uri: str, door: Door) -> list[str]:
    """Return the keys of all objects below a URI, seen from there."""
    folder = uri.removeprefix("s3://")
    return sorted(path.removeprefix(f"{folder}/") for path in backdoor(door).find(folder))


def _who_may_do_what_counts(door: Door, counts: bool) -> None:
    """Let the server refuse whom it does not know, and what a user may not; or let all pass."""
    connection = http.client.HTTPConnection("127.0.0.1", door.behind, timeout=30)
    connection.request("POST", "/moto-api/reset-auth", b"0" if counts else b"Infinity")
    assert connection.getresponse().status == http.client.OK
    connection.close()


def keys_of_a_reader(door: Door) -> tuple[str, str]:
    """Return the key and secret of a user who may list and read, and nothing else."""
    iam = botocore.session.get_session().create_client(
        "iam",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{door.behind}",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    name = f"reader-{uuid.uuid4().hex}"
    may = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "s3:Head*"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=policy)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


@contextmanager
def keys_count(door: Door) -> Iterator[None]:
    """Let the server look at who asks for what, within the block."""
    _who_may_do_what_counts(door, True)
    try:
        yield
    finally:
        _who_may_do_what_counts(door, False)


def forget_clients() -> None:
    """Have the next client look for address and credentials anew."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def client_variables(door: Door) -> dict[str, str]:
    """Return the environment variables by which a client finds the server and may use it."""
    return {**_VARIABLES, "AWS_ENDPOINT_URL": door.url}


# Its children are forked from a process that has the client imported and no threads: one that was
# forked beside a client at work would wait for locks that nobody gives back.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["__main__", "tests.s3", "s3fs", "aiobotocore.session", "mf_core.data.artifacts"]
)


def killed_at(number: int, door: Door, work: Callable[..., object], *arguments: object) -> bool:
    """Do `work` in a process that is killed when the server has done its request `number`.

    To be killed before a request is the same, for the server, as to be killed after the one before.

    Args:
        number: from 0.
        door: what requests come through.
        work: a function of a module, which may be called again.
        arguments: what it is called with.

    Returns:
        Whether it came so far; False: it ended before.
    """
    child = _FORKS.Process(target=_work, args=(dict(os.environ), work, arguments))
    seen = 0

    def act(_method: str, _path: str, now: Moment) -> None:
        nonlocal seen
        if now == "after":
            if seen == number:
                os.kill(int(child.pid or 0), signal.SIGKILL)
            seen += 1

    with door.acting(act):
        child.start()
        child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _work(environ: dict[str, str], work: Callable[..., object], arguments: Any) -> None:
    os.environ.update(environ)
    work(*arguments)
