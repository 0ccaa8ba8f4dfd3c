"""Child processes that end with their parent.

On Linux a child asks for SIGTERM when its parent dies (PR_SET_PDEATHSIG), and the supervisor adopts
the orphans of its children (PR_SET_CHILD_SUBREAPER), so that a walk over its descendants finds
every process of the stack. Elsewhere both are left out and an orderly stop still works.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Bytes to read per line wanted of a log's end; a traceback in a task's log is one line.
_LONG_LINE = 4_000
# Loaded here and not in the forked child, where an import could deadlock.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent, process `parent`, dies."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # It may have died before it was asked for.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    outlive_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, with its output appended to `log`."""
    parent = os.getpid()

    def prepare() -> None:
        if not outlive_parent:
            end_with_parent(parent)

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            # A session of its own: a Ctrl-C at the terminal reaches the launcher only, which then
            # stops things in order.
            start_new_session=True,
            preexec_fn=prepare,
        )


def stop(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """End `process`: SIGTERM, and SIGKILL to its whole session's group after `grace_seconds`."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)

    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def stop_descendants(grace_seconds: float, spare: int | None) -> None:
    """End every process that descends from this one, adopted orphans included.

    Process `spare` and its descendants live on.
    """
    for process in _descendants(spare):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    wait_until(lambda: not _descendants(spare), grace_seconds)

    # Again until there is none: a process may start another one while it is being ended.
    while alive := _descendants(spare):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def reap_adopted(own: set[int]) -> None:
    """Collect the exit status of dead children other than `own`, which nobody else waits for."""
    for process in psutil.Process().children():
        if process.pid in own:
            continue
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def wait_until(
    condition: Callable[[], bool], timeout_seconds: float, pause_seconds: float = 0.1
) -> bool:
    """Return whether `condition` came to hold within `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_seconds)
    return True


def free_port(preferred: int) -> int:
    """Return `preferred` if nothing listens there, else some port that is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("expected a free TCP port on 127.0.0.1, found none")


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Say whether `process` itself listens on `port`.

    Another server there may answer just as well.
    """
    try:
        connections = psutil.Process(process.pid).net_connections("tcp")
    except psutil.Error:
        return False

    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return True
    return False


def tail(log: Path, lines: int) -> list[str]:
    """Return the last `lines` lines of a text file; none if it is not there."""
    if not log.exists():
        return []

    # A log may be large, so only its end is read.
    start = max(0, log.stat().st_size - _LONG_LINE * lines)
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    return text.splitlines()[-lines:]


def _descendants(spare: int | None) -> list[psutil.Process]:
    """Return the living descendants of this process, without `spare` and its own."""
    spared = {spare}
    found = []
    # Parents come before their children.
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.pid in spared or process.ppid() in spared:
                spared.add(process.pid)
            elif process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
