"""Which process writes a file, by a name that no other process ever had anywhere.

Linux tells what it takes, in /proc. Elsewhere nobody has such a name, and what a writer that was
killed has left is known by its age alone.
"""

import os
from hashlib import sha256
from pathlib import Path

# The place of `starttime` among what follows the command's name in /proc/PID/stat.
_START_TIME = 19

PATTERN = r"[0-9a-f]{16}-\d+-\d+"
"""What such a name looks like, as a regular expression."""


def this_process() -> str:
    """Return this process's name; "" where the system tells too little."""
    pid = os.getpid()
    started = _start_of(pid)
    machine = _machine()
    return f"{machine}-{pid}-{started}" if machine and started else ""


def _machine() -> str | None:
    """Return what names this machine since its last start, and this container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return sha256(f"{boot.strip()} {numbers}".encode()).hexdigest()[:16]


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since the machine did; None if it can't be read."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in brackets, and may hold some itself.
    return status.rpartition(")")[2].split()[_START_TIME]


def is_gone(owner: str | None) -> bool:
    """Say whether the process of that name ran on this machine, and surely runs no more."""
    if not owner:
        return False
    machine, pid, started = owner.split("-")
    if machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # Its number may be another process's by now.
    return _start_of(int(pid)) not in (None, started)
