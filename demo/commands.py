"""The launcher's commands: run, up, down, psql and supervise."""

import argparse
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from demo.airflow_api import ApiError
from demo.guard import supervise
from demo.launcher import (
    DEFAULT_PORT,
    Interrupted,
    find_stack,
    raise_on_signals,
    start_lasting_stack,
    stop_lasting_stack,
    temporary_stack,
)
from demo.layout import REPOSITORY, Layout
from demo.run import run_conf, run_demo
from demo.settings import load_secrets
from demo.supervisor import StackError
from mf_core.errors import ConfigError

_PIPE_COLUMNS = 130


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    layout = Layout(REPOSITORY, Path(options.var).resolve())
    if options.command == "supervise":
        return supervise(layout, options.port)
    raise_on_signals()

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe has no width; Rich's 80 columns would break the report's lines.
        console.width = _PIPE_COLUMNS

    command: Callable[[Layout, Console], int] = {
        "run": _run,
        "up": _up,
        "down": _down,
        "psql": _psql,
    }[options.command]
    try:
        return command(layout, console)
    except Interrupted as interruption:
        console.print(f"Stopped: {interruption}.", markup=False)
        return 128 + interruption.number
    except ConfigError as error:
        console.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return error.exit_code
    except (StackError, ApiError, OSError) as error:
        console.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--var",
        default=os.environ.get("MF_VAR", str(REPOSITORY / "var")),
        help="folder of the stack's state",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        help="port of Airflow's server, if it is free (supervise)",
    )
    parser.add_argument("command", choices=["run", "up", "down", "psql", "supervise"])
    return parser


def _run(layout: Layout, console: Console) -> int:
    asked = (os.environ.get(name, "") for name in ("RATINGS", "SETTINGS", "DATA"))
    conf = run_conf(*asked)
    layout.make_folders()
    with temporary_stack(layout, _teller(console)) as stack:
        if stack.was_running:
            address = stack.state.address
            console.print(f"Using the stack that runs at {address} (`make down` ends it).")
        return run_demo(stack, conf, console)


def _up(layout: Layout, console: Console) -> int:
    layout.make_folders()
    stack = start_lasting_stack(layout, _teller(console))
    if stack.was_running:
        console.print("Already running.")
    else:
        console.print("The stack is up; it stays until `make down`.")

    warehouse = f"{stack.state.warehouse_url} (or `make psql`)"
    console.print(f"  Airflow   {stack.state.address}", soft_wrap=True)
    for user, password in load_secrets(layout).passwords.items():
        console.print(f"  login     {user} / {password}", soft_wrap=True, markup=False)
    console.print(f"  warehouse {warehouse}", soft_wrap=True, markup=False)
    return 0


def _teller(console: Console) -> Callable[[str], None]:
    """Return what tells people how far the start of the stack is."""

    def tell(what: str) -> None:
        console.print(f"… {what}")

    return tell


def _down(layout: Layout, console: Console) -> int:
    was_running = stop_lasting_stack(layout)
    console.print("The stack is down." if was_running else "No stack is running.")
    return 0


def _psql(layout: Layout, console: Console) -> int:
    """Open psql on the warehouse, as its writer; Postgres is started for it if it is not up."""
    from mf_core.warehouse.embedded import exclusive, start_embedded

    # PG_VERSION is what a made data folder always holds.
    if not (layout.postgres_data / "PG_VERSION").exists():
        raise StackError("there is no warehouse yet; `make demo` or `make up` makes one.")

    stack = find_stack(layout)
    with exclusive(layout.postgres_data):
        server = start_embedded(layout.postgres_data)
    try:
        command = [
            str(server.bin_dir / "psql"),
            f"--host={server.socket_dir}",
            "--username=mf_writer",
            "--dbname=warehouse",
        ]
        environment = {**os.environ, "PGOPTIONS": "-c search_path=mf,public"}
        return subprocess.run(command, check=False, env=environment).returncode
    finally:
        # A stack may have been started meanwhile; then Postgres is its own to stop.
        if stack is None and find_stack(layout) is None:
            with exclusive(layout.postgres_data):
                server.stop_if_unused()
