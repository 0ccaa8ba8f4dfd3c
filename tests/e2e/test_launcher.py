"""Nothing is left running, whatever ends the launcher."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from demo.layout import REPOSITORY, Layout
from demo.processes import wait_until
from demo.state import read_state

from .conftest import processes_of

_START_SECONDS = 180.0
_STOP_SECONDS = 60.0


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of the stacks of this module, in a path with a space that is too long for a socket."""
    return tmp_path_factory.mktemp("a long name" + "g" * 90) / "var"


@contextmanager
def _demo(var: Path, command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of the demo in a process that ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", "--var", str(var), command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _read_until(process: "subprocess.Popen[str]", wanted: str) -> None:
    """Read what a process prints up to a line that holds `wanted`."""
    assert process.stdout is not None

    printed = []
    for line in process.stdout:
        printed.append(line)
        if wanted in line:
            return

    pytest.fail(f"the launcher ended before it said {wanted!r}: {''.join(printed)}")


def _no_process(var: Path) -> Callable[[], bool]:
    """Return a condition: no process belongs to the stack in folder `var`."""
    return lambda: processes_of(var) == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("starting Postgres", signal.SIGTERM),
        ("starting Airflow's database", signal.SIGINT),
        ("starting Airflow's scheduler", signal.SIGTERM),
        ("train: rating: sweep", signal.SIGTERM),
        ("train: rating: sweep", signal.SIGKILL),
    ],
)
def test_signal_to_the_launcher_leaves_no_process(
    var: Path, ml100k: Path, moment: str, number: signal.Signals
) -> None:
    with _demo(var, "run", RATINGS=str(ml100k)) as process:
        _read_until(process, moment)
        process.send_signal(number)
        status = process.wait(_STOP_SECONDS)

    # A launcher that hears the signal ends as a shell would have it.
    expected = -number if number == signal.SIGKILL else 128 + number
    assert status == expected

    none_is_left = wait_until(_no_process(var), _STOP_SECONDS)
    assert none_is_left, [process.cmdline() for process in processes_of(var)]


def _process(var: Path, name: str) -> psutil.Process:
    """Return a process of the stack by its part: guard, supervisor or postgres."""
    state = read_state(Layout(REPOSITORY, var))
    assert state is not None
    guard = psutil.Process(state.pid)
    if name == "guard":
        return guard
    (supervisor,) = guard.children()
    if name == "supervisor":
        return supervisor
    return next(child for child in supervisor.children() if child.name() == "postgres")


@pytest.mark.parametrize(
    ("moment", "victim"),
    [
        ("starting Airflow's scheduler", "guard"),
        ("starting Airflow's scheduler", "postgres"),
        ("train: rating: sweep", "supervisor"),
    ],
)
def test_a_part_of_the_stack_that_is_killed_leaves_no_process(
    var: Path, ml100k: Path, moment: str, victim: str
) -> None:
    with _demo(var, "run", RATINGS=str(ml100k)) as process:
        _read_until(process, moment)
        _process(var, victim).kill()
        printed, _ = process.communicate(timeout=_STOP_SECONDS)

        none_is_left = wait_until(_no_process(var), 30)
    assert none_is_left, [process.cmdline() for process in processes_of(var)]
    assert process.returncode == 1
    assert "error: " in printed
    assert "Traceback" not in printed


def test_up_is_repeatable_and_down_leaves_no_process(var: Path) -> None:
    with _demo(var, "up") as first:
        printed, _ = first.communicate(timeout=_START_SECONDS)
        assert first.returncode == 0, printed
        assert "http://127.0.0.1:" in printed

    with _demo(var, "up") as second:
        printed, _ = second.communicate(timeout=30)
        assert "Already running." in printed

    with _demo(var, "down") as down:
        printed, _ = down.communicate(timeout=_STOP_SECONDS)
        assert "The stack is down." in printed
    assert processes_of(var) == []

    with _demo(var, "down") as again:
        printed, _ = again.communicate(timeout=30)
        assert "No stack is running." in printed
        assert again.returncode == 0
