"""One demo: trigger the nightly retrain on a running stack, follow it, report."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.airflow_api import RunState
from demo.follow import RunFollower
from demo.launcher import Stack
from demo.render import print_report
from demo.report import DemoReport, read_report, write_report
from demo.sources import by_name
from demo.state import READY, running_stack
from demo.supervisor import StackError
from demo.task_logs import last_lines, log_file
from mf_core.config import make_config, uris_in
from mf_core.config import settings as all_settings
from mf_core.errors import ConfigError
from mf_core.redaction import redacted

DAG_ID = "mf_retrain"
DEMO_SOURCE = "ml-100k"
# The ceiling that a good model of MovieLens 100K stays under; a user's own ratings get the DAG's
# default.
DEMO_MAX_RMSE = 0.935
_KINDS = ("", "ratings", "events")
# Exit statuses.
PUBLISHED = 0
FAILED = 1
REFUSED = 5
_DAG_SECONDS = 60.0


def run_demo(stack: Stack, conf: Mapping[str, Any], console: Console) -> int:
    """Run the retrain once with the settings `conf` and return the exit status.

    Its source may be any: it is named as one of the operator's.
    """
    stack.api.wait_for_dag(DAG_ID, _DAG_SECONDS)
    if not stack.was_running:
        _abandon_unfinished_runs(stack, console)
    stack.api.set_paused(DAG_ID, False)

    started = datetime.now(UTC).isoformat()
    run_id = stack.api.trigger(DAG_ID, by_name(stack.layout, conf))
    source = redacted(str(conf.get("source.uri") or conf.get("source.name")))
    what = f"Run {run_id} of {DAG_ID} on {source}"
    console.print(f"{what}; watch it at {stack.state.address}", markup=False, soft_wrap=True)

    follower = RunFollower(stack.api, DAG_ID, run_id, stack.layout.task_logs)
    try:
        run = follower.follow(console, _stack_check(stack))
    except BaseException:
        _abandon(stack, run_id)
        raise

    seconds = follower.progress.seconds
    report = read_report(stack.state.warehouse_url, run_id, started, seconds)
    return _conclude(stack, run, report, console)


def run_conf(ratings: str, settings: str = "", data: str = "") -> dict[str, Any]:
    """Return the settings that the demo's run is triggered with.

    Args:
        ratings: path or URI; empty: the demo's own.
        settings: NAME=VALUE pairs, parted by white space, for a source that the defaults don't fit.
        data: `events` takes every row as an event and reads no rating; empty: ratings.

    Raises:
        ConfigError: a setting is wrong, or `data` is something else.
    """
    if data not in _KINDS:
        raise ConfigError(f"DATA is {data!r}, expected {' or '.join(filter(None, _KINDS))}.")
    # The warehouse holds one source at a time: ids of two sources may be equal and mean different
    # things.
    conf: dict[str, Any] = {
        "run.force": True,
        "data.ingest_mode": "replace",
        "data.max_removed_share": 1.0,
        "data.max_volume_drop": 1.0,
        "data.max_volume_growth": 1e6,
    }
    if ratings:
        conf["source.uri"] = "\n".join(map(_absolute, uris_in(ratings)))
    else:
        conf["source.uri"] = DEMO_SOURCE
        if data != "events":
            conf["gate.max_rmse"] = DEMO_MAX_RMSE
    kind = {"data.kind": data} if data else {}
    wanted = _overrides(settings, kind)
    if "source.name" in wanted and not ratings:
        # A source of the user's own settings file, which says where it is.
        del conf["source.uri"]
    return conf | kind | wanted


def _absolute(uri: str) -> str:
    """Return a path as one from the root: the tasks run in another folder than the caller."""
    known = "://" in uri or uri in (DEMO_SOURCE, "sql")
    return uri if known else str(Path(uri).expanduser().resolve())


def _overrides(settings: str, kind: Mapping[str, str]) -> dict[str, Any]:
    """Return `settings` with the types that the trigger form's checks want. Raises ConfigError.

    `kind` says what the rows are, which decides about what goes with what.
    """
    pairs = {}
    for pair in settings.split():
        name, _, value = pair.partition("=")
        pairs[name] = value

    config = make_config({**kind, **pairs})
    typed = {setting.name: setting.default for setting in all_settings(config)}
    return {name: typed[name] for name in pairs}


def _conclude(stack: Stack, run: RunState, report: DemoReport | None, console: Console) -> int:
    """Print how the run ended, write the report, and return the exit status."""
    # Without a model version there is nothing to report but what failed.
    if report is None:
        _print_failures(stack, run, console)
        return FAILED

    write_report(report, stack.layout.report_file)
    print_report(console, report)
    version = report.model_version
    if run.state == "success" and report.published:
        console.print(f"\n[green]Version {version} is live.[/]")
        console.print(f"The report: {stack.layout.report_file}", markup=False, soft_wrap=True)
        return PUBLISHED
    if report.refused:
        console.print(f"\n[red]The gate refused version {version};[/] nothing was published.")
        return REFUSED

    _print_failures(stack, run, console)
    return FAILED


def _print_failures(stack: Stack, run: RunState, console: Console) -> None:
    console.print(f"\n[red]The run ended as {run.state} and published nothing.[/]")
    for task in stack.api.tasks(DAG_ID, run.run_id):
        if task.state != "failed":
            continue
        log = log_file(stack.layout.task_logs, DAG_ID, run.run_id, task)
        what = f"\nTask {task.task_id} failed; the end of {log}:"
        console.print(what, markup=False, soft_wrap=True)
        for line in last_lines(log):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _abandon_unfinished_runs(stack: Stack, console: Console) -> None:
    """End what an interrupted demo left behind: the DAG runs one at a time, and ours would wait."""
    for run in stack.api.unfinished_runs(DAG_ID):
        console.print(
            f"Run {run.run_id} was interrupted earlier; it is marked as failed.",
            markup=False,
            soft_wrap=True,
        )
        stack.api.fail_run(DAG_ID, run.run_id)


def _abandon(stack: Stack, run_id: str) -> None:
    """Stop a run that nobody follows any more, where Airflow still answers."""
    try:
        stack.api.fail_run(DAG_ID, run_id)
    except Exception as error:
        # The stack may be what failed; the next demo ends the run.
        print(f"the run {run_id} could not be marked as failed ({error}); the next demo does so.")


def _stack_check(stack: Stack) -> Callable[[], None]:
    """Return what raises StackError once the stack is down."""

    def check() -> None:
        state = running_stack(stack.layout)
        if state is not None and state.phase == READY:
            return
        detail = state.detail if state is not None else ""
        raise StackError(f"the stack went down while the run was under way. {detail}".strip())

    return check
