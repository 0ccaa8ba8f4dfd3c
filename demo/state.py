"""What the supervisor and the launcher tell each other.

There is a state file, and a lock that is held while the stack lives.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.layout import Layout
from demo.settings import write_private

STARTING = "starting"
READY = "ready"
STOPPING = "stopping"
FAILED = "failed"


@dataclass(frozen=True)
class StackState:
    """The supervisor's own account.

    `phase` is starting, ready, stopping or failed; `detail` says at what. The URLs are empty until
    they are known.
    """

    pid: int
    phase: str
    detail: str
    address: str
    admin_url: str
    warehouse_url: str


def starting(pid: int) -> StackState:
    """Return the state of a supervisor that has just begun."""
    return StackState(
        pid=pid,
        phase=STARTING,
        detail="",
        address="",
        admin_url="",
        warehouse_url="",
    )


def write_state(layout: Layout, state: StackState) -> None:
    """Replace the state file."""
    text = json.dumps(asdict(state), indent=1)
    write_private(layout.state_file, text)


def read_state(layout: Layout) -> StackState | None:
    """Return the last state written, by a supervisor that may be gone; None if there is none."""
    try:
        fields = json.loads(layout.state_file.read_text())
        return StackState(**fields)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def take_lock(path: Path) -> int | None:
    """Take the stack's lock and return its file descriptor.

    None if a living supervisor holds it. The lock goes with the process, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None

    # The holder's number, for who finds the lock taken before the state file is there.
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def running_stack(layout: Layout) -> StackState | None:
    """Return the state of the stack that runs on `layout` now, or None."""
    descriptor = take_lock(layout.lock_file)
    if descriptor is not None:
        os.close(descriptor)
        return None

    holder = int(layout.lock_file.read_text() or 0)
    state = read_state(layout)
    # The file may still be that of an earlier supervisor, which was killed.
    if state is None or state.pid != holder:
        return starting(holder)
    return state
