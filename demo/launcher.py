"""Starting, finding and stopping the supervisor of the embedded stack."""

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
from demo.layout import Layout
from demo.settings import ADMIN, load_secrets
from demo.state import FAILED, READY, StackState, read_state, running_stack
from demo.supervisor import ALREADY_RUNNING, StackError

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
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`, and end when the `make` that started this process dies."""

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
        environment = {"MF_SCHEDULE": far_away(datetime.now(UTC).date()), **os.environ}
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
    """Return the stack that runs, waiting for one that just starts or stops; None if there is none."""
    deadline = time.monotonic() + _STOP_SECONDS
    while (state := running_stack(layout)) is not None:
        if state.phase == READY:
            return _stack(layout, state, was_running=True)
        if time.monotonic() > deadline:
            raise StackError(
                f"process {state.pid} has been {state.phase} the stack for too long; `make down` ends it."
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
    if state.pid:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
    if not processes.wait_until(lambda: running_stack(layout) is None, _STOP_SECONDS):
        raise StackError(
            f"the stack's supervisor (pid {state.pid}) did not end within {_STOP_SECONDS:.0f} s; see {layout.logs}."
        )
    return True


def far_away(today: date) -> str:
    """Return a cron line that comes due half a year from `today`.

    A stack that lives for one demo must not start a nightly run of its own: Airflow makes up for a missed one as soon as the
    DAG is unpaused, and the demo's run would wait behind it.
    """
    day = today + timedelta(days=182)
    return f"0 0 {min(day.day, 28)} {day.month} *"


def _start_supervisor(
    layout: Layout, preferred_port: int, environment: Mapping[str, str], *, outlive_parent: bool
) -> subprocess.Popen[bytes]:
    return processes.spawn(
        [
            sys.executable,
            "-m",
            "demo",
            "--var",
            str(layout.var),
            "--port",
            str(preferred_port),
            "supervise",
        ],
        log=layout.logs / "supervisor.log",
        environment=environment,
        folder=layout.repository,
        outlive_parent=outlive_parent,
    )


def _wait_until_ready(
    layout: Layout, supervisor: subprocess.Popen[bytes], say: Callable[[str], None]
) -> Stack:
    said = ""
    while True:
        ended = supervisor.poll() is not None
        state = read_state(layout)
        mine = state is not None and state.pid == supervisor.pid
        if state is not None and mine and state.phase == READY:
            return _stack(layout, state, was_running=False)
        if ended:
            detail = state.detail if state is not None and mine and state.phase == FAILED else ""
            raise StackError(_why_it_ended(layout, supervisor.returncode, detail))
        if state is not None and mine and state.detail not in ("", said):
            said = state.detail
            say(f"starting {said}")
        time.sleep(0.1)


def _why_it_ended(layout: Layout, status: int, detail: str) -> str:
    if status == ALREADY_RUNNING:
        return "another `make demo` or `make up` was started at the same moment; try again."
    log = layout.logs / "supervisor.log"
    return detail or "\n".join(
        [f"the stack did not start (status {status}); the end of {log}:", *processes.tail(log, 15)]
    )


def _stack(layout: Layout, state: StackState, *, was_running: bool) -> Stack:
    return Stack(
        layout,
        state,
        AirflowApi(state.address, ADMIN, load_secrets(layout).admin_password),
        was_running,
    )


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    processes.stop(supervisor, _STOP_SECONDS)
