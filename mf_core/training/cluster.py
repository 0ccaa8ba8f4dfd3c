"""How the workers of a training find each other, and learn that one of them is gone.

`MF_TRAIN_CLUSTER` names the address (`host:port`) of every worker, the same list on all machines.
The trainer that a `train` task starts is worker 0. The others are services, `mf train-worker`,
which wait for work and hold nothing until it comes (`mf_core.training.worker`).

A service connects to worker 0 at its meeting port, the one after that of its address, and says who
it is. Once all have come, worker 0 sends them the work (a `Manifest` as JSON), and each starts a
trainer of its own; these meet at their addresses, by TensorFlow. The connections stay open as long
as the training lasts: one that breaks says that somebody is gone.

    service -> worker 0    {"index": 1, "cluster": [...], "code": "..."}
    worker 0 -> service    the manifest
    service -> worker 0    what went wrong (a `Problem`), or null, at the end of its trainer

Each message is a line. Neither these ports nor TensorFlow's ask for a password: they belong into a
private network.
"""

import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mf_core.errors import ConfigError, WorkerLostError
from mf_core.provenance import MODEL_SOURCES, source_hash
from mf_core.training.manifest import Problem

CLUSTER = "MF_TRAIN_CLUSTER"
GOES_ON = "Started again, the training goes on from its checkpoint."
_WAIT_SECONDS = 600.0
_HELLO_SECONDS = 10.0
_MOST_BYTES = 1 << 24
# A machine that loses its power closes no connection.
_KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))

Log = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, and which of them this process is."""

    addresses: tuple[str, ...]
    index: int

    @staticmethod
    def from_environment(index: int = 0) -> "Cluster":
        """Return what `MF_TRAIN_CLUSTER` says; without it, a cluster of this process alone.

        Raises:
            ConfigError: it names no addresses, one twice, or none for `index`.
        """
        text = os.environ.get(CLUSTER, "")
        addresses = tuple(address.strip() for address in text.split(",") if address.strip())
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
                raise ConfigError(
                    f"{CLUSTER}: expected host:port for each worker, with commas between them, "
                    f"got {address!r:.100}."
                )
        if len(set(addresses)) < len(addresses):
            raise ConfigError(f"{CLUSTER} names an address twice: {text!r:.300}.")
        if index and index >= len(addresses):
            raise ConfigError(
                f"{CLUSTER} names {len(addresses)} workers, so there is none with number {index}; "
                "they are counted from 0."
            )
        return Cluster(addresses, index)

    def is_shared(self) -> bool:
        """Say whether there are other workers."""
        return len(self.addresses) > 1

    def meeting(self) -> tuple[str, int]:
        """Return host and port where the services meet worker 0."""
        host, _, port = self.addresses[0].rpartition(":")
        return host, int(port) + 1

    def hello(self) -> dict[str, Any]:
        """Return what a service says of itself."""
        return {
            "index": self.index,
            "cluster": list(self.addresses),
            "code": source_hash(MODEL_SOURCES),
        }


ALONE = Cluster((), 0)
"""A process that trains by itself."""


class Line:
    """A connection on which each message is a line of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._received = b""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, message: Any) -> None:
        """Send a message. Raises OSError if the connection is gone."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """Return the next message.

        Raises:
            OSError: the connection is gone, too slow, or what came is no message.
        """
        while b"\n" not in self._received:
            part = self.socket.recv(1 << 16)
            if not part:
                raise ConnectionResetError("the other side has closed the connection")
            self._received += part
            if len(self._received) > _MOST_BYTES:
                raise ConnectionError("this is no message of a worker: it has no end")
        message, _, self._received = self._received.partition(b"\n")
        try:
            return json.loads(message)
        except ValueError as error:
            raise ConnectionError(f"this is no message of a worker: {error}") from None

    def close(self) -> None:
        """Close the connection, also for a thread that waits for a message."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@dataclass
class Roster:
    """The services that have come to worker 0: their connections by number."""

    cluster: Cluster
    lines: dict[int, Line] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def missing(self) -> list[int]:
        """Return the numbers of those that have not come."""
        return [
            number for number in range(1, len(self.cluster.addresses)) if number not in self.lines
        ]

    def admit(self, line: Line) -> None:
        """Take a service in if it belongs here; a later one of the same number replaces it."""
        hello = line.receive()
        index = int(hello["index"])
        reason = self._reason_to_refuse(index, hello)
        if reason:
            self.refused[index] = reason
            line.close()
            return
        if index in self.lines:
            self.lines[index].close()
        self.lines[index] = line
        line.socket.settimeout(None)

    def _reason_to_refuse(self, index: int, hello: dict[str, Any]) -> str | None:
        own = self.cluster.hello()
        if hello["cluster"] != own["cluster"]:
            return f"it was started with {CLUSTER}={','.join(hello['cluster'])}"
        if hello["code"] != own["code"]:
            return f"it runs other code ({hello['code']}; here {own['code']})"
        return None if 0 < index < len(self.cluster.addresses) else f"there is no number {index}"

    def drop_the_gone(self) -> None:
        """Forget those whose connections have ended meanwhile."""
        for number, line in list(self.lines.items()):
            line.socket.setblocking(False)
            try:
                gone = line.socket.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            line.socket.setblocking(True)
            if gone:
                self.lines.pop(number).close()

    def watch(self, on_loss: Callable[[Problem], None]) -> None:
        """Wait until every service has ended its work well; call `on_loss` where one has not."""
        selector = selectors.DefaultSelector()
        for number, line in self.lines.items():
            selector.register(line.socket, selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select():
                problem = self._end_of(key.data)
                if problem:
                    on_loss(problem)
                selector.unregister(key.fileobj)

    def _end_of(self, number: int) -> Problem | None:
        """Return what went wrong with a service that has something to say; None: nothing."""
        name = f"worker {number} ({self.cluster.addresses[number]})"
        try:
            said = self.lines[number].receive()
            problem = Problem(**said) if said else None
        except (OSError, TypeError):
            return Problem(WorkerLostError.__name__, f"{name} is gone. {GOES_ON}")
        return problem and Problem(problem.type, f"{name}: {problem.message}")


@contextmanager
def gathering(cluster: Cluster, log: Log, wait_seconds: float = _WAIT_SECONDS) -> Iterator[Roster]:
    """Wait, as worker 0, until a service has come for every other worker.

    Raises:
        WorkerLostError: some have not come, or the port is taken.
    """
    host, port = cluster.meeting()
    roster = Roster(cluster)
    deadline = time.monotonic() + wait_seconds
    try:
        listener = socket.create_server(("", port), backlog=len(cluster.addresses))
    except OSError as error:
        raise WorkerLostError(
            f"port {port} of this machine, at which the workers meet ({CLUSTER}), can't be opened "
            f"({error.strerror})."
        ) from None
    try:
        with listener:
            log(f"waiting for {len(roster.missing())} other workers at {host}:{port}")
            while roster.missing():
                _admit_next(listener, roster, deadline)
                roster.drop_the_gone()
        yield roster
    finally:
        for line in roster.lines.values():
            line.close()


def _admit_next(listener: socket.socket, roster: Roster, deadline: float) -> None:
    """Take in the next service that comes."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise WorkerLostError(_who_is_missing(roster))
    # Those that have come may have gone again, so look at them now and then.
    listener.settimeout(min(left, 1.0))
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        return
    connection.settimeout(_HELLO_SECONDS)
    line = Line(connection)
    try:
        roster.admit(line)
    except (OSError, KeyError, TypeError, ValueError):
        # Something else has knocked at the port.
        line.close()


def _who_is_missing(roster: Roster) -> str:
    """Say in words which workers have not come, and why those that came were sent away."""
    named = []
    for number in roster.missing():
        reason = roster.refused.get(number, "nothing came from there")
        named.append(f"{number} ({roster.cluster.addresses[number]}: {reason})")
    return (
        f"these workers of {CLUSTER} have not come: {', '.join(named)}. On each of their machines "
        f"`mf train-worker` has to run. {GOES_ON}"
    )


def wait_for_work(cluster: Cluster, pause_seconds: float = 2.0) -> tuple[Line, str]:
    """Wait, as a service, until worker 0 has work; return the connection and the work as JSON."""
    while True:
        with suppress(OSError):
            line = reach(cluster)
            try:
                line.send(cluster.hello())
                return line, str(line.receive())
            except OSError:
                line.close()
        time.sleep(pause_seconds)


def reach(cluster: Cluster) -> Line:
    """Return a connection to worker 0. Raises OSError while nobody waits there."""
    connection = socket.create_connection(cluster.meeting(), timeout=_HELLO_SECONDS)
    # On one machine, a connection to a port that is free may by chance begin at that port: then it
    # has reached itself.
    if connection.getsockname() == connection.getpeername():
        connection.close()
        raise ConnectionRefusedError("nobody waits there")
    connection.settimeout(None)
    return Line(connection)
