"""Starting, finding and stopping the embedded stack, by its guard and supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from demo import processes
from demo.airflow_api import AirflowApi
from demo.guard import ALREADY_RUNNING
from demo.layout import Layout
from demo.settings import ADMIN, load_secrets
from demo.state import FAILED, READY, StackState, read_state, running_stack
from demo.supervisor import StackError

DEFAULT_PORT = 8080
# Longer than all of the supervisor's own grace periods together.
_STOP_SECONDS = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Stack:
    """A stack that is up."""

    layout: Layout
    state: StackState
    api: AirflowApi
    was_running: bool


class Interrupted(Exception):
    """A signal asked the launcher to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


def raise_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`.

    The process also ends when the `make` that started it dies.
    """

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    if "MAKELEVEL" in os.environ:
        processes.end_with_parent(os.getppid())


@contextmanager
def temporary_stack(
    layout: Layout, say: Callable[[str], None], preferred_port: int = DEFAULT_PORT
) -> Iterator[Stack]:
    """Yield the stack that runs, or start one and stop it at the end of the block.

    Raises:
        StackError: it did not start.
    """
    running = find_stack(layout)
    if running is not None:
        yield running
        return

    supervisor: subprocess.Popen[bytes] | None = None
    try:
        today = datetime.now(UTC).date()
        environment = {"MF_SCHEDULE": far_away(today), **os.environ}
        supervisor = _start_supervisor(layout, preferred_port, environment, outlive_parent=False)
        yield _wait_until_ready(layout, supervisor, say)
    finally:
        # A signal changes nothing now: the stop is under way.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
        if supervisor is not None:
            _end(supervisor)
        for number, handler in before.items():
            signal.signal(number, handler)


def start_lasting_stack(layout: Layout, say: Callable[[str], None]) -> Stack:
    """Return the stack that runs, or start one that outlives this process.

    Raises:
        StackError: it did not start.
    """
    running = find_stack(layout)
    if running is not None:
        return running

    supervisor = _start_supervisor(layout, DEFAULT_PORT, os.environ, outlive_parent=True)
    try:
        return _wait_until_ready(layout, supervisor, say)
    except BaseException:
        _end(supervisor)
        raise


def find_stack(layout: Layout) -> Stack | None:
    """Return the stack that runs, waiting for one that just starts or stops; None if there is none.

    Raises:
        StackError: it went on starting or stopping for too long.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    while (state := running_stack(layout)) is not None:
        if state.phase == READY:
            return _stack(layout, state, was_running=True)
        if time.monotonic() > deadline:
            raise StackError(
                f"process {state.pid} has been {state.phase} the stack for too long; "
                "`make down` ends it."
            )
        time.sleep(0.25)
    return None


def stop_lasting_stack(layout: Layout) -> bool:
    """Stop the stack that runs and return whether there was one.

    Raises:
        StackError: it did not stop.
    """
    state = running_stack(layout)
    if state is None:
        return False

    # 0 stands for a supervisor that holds the lock and has not written its number yet.
    if state.pid:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
    if not processes.wait_until(lambda: running_stack(layout) is None, _STOP_SECONDS):
        raise StackError(
            f"the stack's supervisor (pid {state.pid}) did not end within {_STOP_SECONDS:.0f} s; "
            f"see {layout.logs}."
        )
    return True


def far_away(today: date) -> str:
    """Return a cron line that comes due half a year from `today`.

    A stack that lives for one demo must not start a nightly run of its own: Airflow makes up for a
    missed one as soon as the DAG is unpaused, and the demo's run would wait behind it.
    """
    day = today + timedelta(days=182)
    return f"0 0 {min(day.day, 28)} {day.month} *"


def _start_supervisor(
    layout: Layout, preferred_port: int, environment: Mapping[str, str], *, outlive_parent: bool
) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "demo"),
        *("--var", str(layout.var)),
        *("--port", str(preferred_port)),
        "supervise",
    ]
    return processes.spawn(
        command,
        log=layout.logs / "supervisor.log",
        environment=environment,
        folder=layout.repository,
        outlive_parent=outlive_parent,
    )


def _wait_until_ready(
    layout: Layout, supervisor: subprocess.Popen[bytes], say: Callable[[str], None]
) -> Stack:
    """Return the stack once `supervisor` says that it is up; `say` is told what is started.

    Raises:
        StackError: it did not start.
    """
    said = ""
    while True:
        # Asked before the state is read, so that the last state of one that has ended is seen.
        ended = supervisor.poll() is not None
        state = _state_of(supervisor, layout)
        if state is not None and state.phase == READY:
            return _stack(layout, state, was_running=False)
        if ended:
            detail = state.detail if state is not None and state.phase == FAILED else ""
            raise StackError(_why_it_ended(layout, supervisor.returncode, detail))

        if state is not None and state.detail not in ("", said):
            said = state.detail
            say(f"starting {said}")
        time.sleep(0.1)


def _state_of(supervisor: subprocess.Popen[bytes], layout: Layout) -> StackState | None:
    """Return what `supervisor` has written; None while the file is that of an earlier one."""
    state = read_state(layout)
    if state is None or state.pid != supervisor.pid:
        return None
    return state


def _why_it_ended(layout: Layout, status: int, detail: str) -> str:
    if status == ALREADY_RUNNING:
        return "another `make demo` or `make up` was started at the same moment; try again."
    if detail:
        return detail

    log = layout.logs / "supervisor.log"
    what = f"the stack did not start (status {status}); the end of {log}:"
    return "\n".join([what, *processes.tail(log, 15)])


def _stack(layout: Layout, state: StackState, *, was_running: bool) -> Stack:
    password = load_secrets(layout).passwords[ADMIN]
    return Stack(
        layout=layout,
        state=state,
        api=AirflowApi(state.address, ADMIN, password),
        was_running=was_running,
    )


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    processes.stop(supervisor, _STOP_SECONDS)
