"""The stack's guard: it sees to it that nothing stays, should the supervisor be killed.

    launcher -> guard -> supervisor -> Postgres, Airflow's components -> tasks -> trainer

The two watch each other. If the supervisor is killed, its orphans become the guard's, who ends them
in order. If the guard is killed, the kernel tells the supervisor, who stops the stack. Only if both
are killed at the same instant is something left, and the next start finds and ends it.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import FrameType

import psutil

from demo import processes
from demo.layout import Layout
from demo.state import FAILED, STOPPING, read_state, starting, take_lock, write_state
from demo.supervisor import GRACE_SECONDS, Supervisor, postmaster

ALREADY_RUNNING = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POSTGRES_SECONDS = 20.0


def supervise(layout: Layout, preferred_port: int) -> int:
    """Run the stack below this process until a signal comes; returns the exit status."""
    lock = take_lock(layout.lock_file)
    if lock is None:
        return ALREADY_RUNNING
    layout.make_folders()
    processes.adopt_orphans()

    # A signal that comes too early for either of the two waits until it is ready for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    guard = os.getpid()
    supervisor = os.fork()
    # Both hold the lock: it is free when both have ended.
    if supervisor:
        return _guard(layout, supervisor)
    return _supervise(Supervisor(layout, preferred_port, owner=guard), guard)


def _supervise(supervisor: Supervisor, guard: int) -> int:
    """Be the supervisor; returns the exit status."""
    _on_signals(supervisor.request_stop)
    processes.end_with_parent(guard)
    processes.adopt_orphans()
    return supervisor.live()


def _guard(layout: Layout, supervisor: int) -> int:
    """Be the guard of process `supervisor`; returns the exit status.

    Signals are passed on to it. What is left when it ends is ended.
    """
    _on_signals(lambda number, _: _send(supervisor, number))
    ended = os.waitpid(supervisor, 0)[1]
    _on_signals(signal.SIG_IGN)

    status = os.waitstatus_to_exitcode(ended)
    if status < 0:
        what = f"the stack's supervisor was killed by {signal.Signals(-status).name}"
        _say(layout, STOPPING, what)
    _end_what_is_left(layout)
    if status < 0:
        _say(layout, FAILED, f"{what}; all that it had started was ended")
        return 1
    return status


def _on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Answer the signals that ask for the end, those included that have come already."""
    for number in _SIGNALS:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _say(layout: Layout, phase: str, detail: str) -> None:
    """Say in the supervisor's place what the launcher waits for."""
    print(detail, file=sys.stderr, flush=True)
    state = read_state(layout)
    # It may have been killed before its first word.
    if state is None or state.pid != os.getpid():
        state = starting(os.getpid())
    write_state(layout, replace(state, phase=phase, detail=detail))


def _end_what_is_left(layout: Layout) -> None:
    """End every process that descends from this one; Postgres, which the others use, comes last."""
    server = postmaster(layout)
    processes.stop_descendants(GRACE_SECONDS, spare=server)

    # SIGINT: it breaks off its sessions, and leaves its files in order.
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    if server is not None and server in ours:
        _send(server, signal.SIGINT)
        processes.wait_until(lambda: postmaster(layout) is None, _POSTGRES_SECONDS)
    processes.stop_descendants(GRACE_SECONDS, spare=None)
