"""`mf tune`: choose settings on a validation part of the training rows."""

from typing import TYPE_CHECKING, Any

import click

from mf_core.cli.options import json_option, open_workplace, print_table, settings_options, show
from mf_core.config import Config, Head, make_config
from mf_core.extras import TUNE

if TYPE_CHECKING:
    from mf_core.tune import Standing, Task, TrialReport, TuneReport

_SHOWN = 10


@click.command()
@click.option(
    "--head",
    type=click.Choice(["rating", "ranking"]),
    help="Head whose settings to choose; by default the rating head, if there are ratings.",
)
@click.option("--solver", help="Solver of the rating head; the configured one by default.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time to search for.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=0),
    help="Upper limit of trials, besides the time; 0: only compare on other parts.",
)
@click.option(
    "--parts",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Number of other validation parts to compare the best trials on, in the last third of "
    "the time.",
)
@click.option(
    "--study",
    help="Name of the study; a known name continues that study. By default, rows and settings "
    "give it.",
)
@click.option(
    "--train",
    "train_file",
    help="File or URI of training ratings; by default those in the warehouse.",
)
@click.option(
    "--show",
    "show_only",
    is_flag=True,
    help="Show the study, or a list of all studies, without a search.",
)
@click.option(
    "--apply/--no-apply",
    "wants_apply",
    default=True,
    help="Whether better settings hold from the next night on (with train.settings=found).",
)
@json_option
@settings_options
def tune(
    config: Config,
    head: Head | None,
    solver: str | None,
    minutes: float,
    trials: int | None,
    parts: int,
    study: str | None,
    train_file: str | None,
    show_only: bool,
    wants_apply: bool,
    as_json: bool,
) -> None:
    """Search for better settings of one head; they hold from the next night on.

    Trials are judged on a tenth of the training ratings. The five best and the present settings are
    then fitted again on other tenths, and the winner is decided there. Test ratings are never
    looked at. Results stay in the warehouse: the same study continues where it stopped, and several
    processes may work on one study. A winner is put on record as found settings, which the gate
    judges as on any other night; it is printed for the file named by MF_CONFIG as well.
    """
    with TUNE.required():
        from mf_core import tune as tuning

    head = head or config.heads()[0]
    config.require_head(head)
    with open_workplace() as place:
        if show_only and not study:
            show(tuning.studies(place.engine), as_json)
            return
        if show_only and study:
            report = tuning.show(place.engine, study)
            verdict = ""
        else:
            standing = tuning.standing_of(config, place.engine)
            reason = _reason_not_to_apply(standing, wants_apply, solver, train_file)
            left_alone = frozenset() if reason else standing.pinned
            task = _task_of(standing.config, place, head, solver, train_file, left_alone)
            study = study or task.default_study()
            _announce(place, study, task)
            report = tuning.tune(
                task,
                place.engine,
                study_name=study,
                seconds=60 * minutes,
                log=place.log,
                max_trials=trials,
                parts=parts,
            )
            verdict = reason or _applied(place, standing, task, report)
    if as_json:
        show({**_as_dict(report), "applied": verdict}, as_json)
    else:
        _print(report, verdict)


def _reason_not_to_apply(
    standing: "Standing", wants_apply: bool, solver: str | None, train_file: str | None
) -> str:
    """Return in words why what is found will not hold for the nights; empty if it will."""
    if not wants_apply:
        return "not applied: --no-apply"
    if standing.own.train.settings == "fixed":
        return "not applied: train.settings is fixed"
    if train_file:
        return "not applied: it was found on the ratings of a file (--train)"
    if solver not in (None, standing.config.rating_head.solver):
        return f"not applied: it is for solver {solver}, and the nights take another one (--solver)"
    return ""


def _applied(place: Any, standing: "Standing", task: "Task", report: "TuneReport") -> str:
    """Put the winner on record for the nights, and return in words what was done."""
    from mf_core import tune as tuning

    found = tuning.apply(place.engine, standing, task.rows, report)
    if found is None:
        return "not applied: nothing was better than the present settings on other parts"
    return f"applied: they hold from the next night on, which the gate judges ({found.grounds})"


def _task_of(
    config: Config,
    place: Any,
    head: Head,
    solver: str | None,
    train_file: str | None,
    left_alone: frozenset[str],
) -> "Task":
    """Return what to fit and judge, on the ratings of a file or of the warehouse."""
    from mf_core import tune as tuning

    if solver:
        config = make_config({"rating_head.solver": solver}, config)
    if train_file:
        rows = tuning.read_training_file(config, train_file)
    else:
        rows = tuning.read_warehouse(config, place.engine)
    return tuning.make_task(config, head, rows, left_alone=left_alone)


def _announce(place: Any, study: str, task: "Task") -> None:
    place.log(
        f"study {study}: {len(task.fitted):,} ratings to fit, "
        f"{len(task.validation):,} to judge by {task.metric}"
    )


def _print(report: "TuneReport", verdict: str) -> None:
    """Print the best trials, how they compare on other parts, the verdict, and the best settings.

    The trial with the present settings is always among them.
    """
    finished = report.finished
    listed = finished[:_SHOWN]
    listed += [trial for trial in finished[_SHOWN:] if trial.as_begun]
    print_table([_row(report, trial) for trial in listed])

    if report.compared:
        n_parts = len(report.compared[0].again)
        click.echo(f"\nagain, mean of {n_parts} other parts:\n")
        print_table([_comparison(report, trial) for trial in report.compared])

    click.echo(
        f"\nstudy {report.study}: {len(report.trials)} trials, {len(finished)} ran to the end; "
        "trial 0 has the settings as the study began\n"
    )
    if verdict:
        click.echo(f"{verdict}\n")
    best = report.best_toml()
    click.echo(best or "no trial has finished; run it again with more --minutes")


def _row(report: "TuneReport", trial: "TrialReport") -> dict[str, Any]:
    """Return a trial for the table, its settings without their sections."""
    row = {
        "trial": trial.number,
        report.metric: trial.value,
        "iterations": trial.iterations,
        "seconds": trial.seconds,
    }
    for name, value in trial.settings.items():
        _, _, leaf = name.rpartition(".")
        row[leaf] = value
    return row


def _comparison(report: "TuneReport", trial: "TrialReport") -> dict[str, Any]:
    """Return a trial's mean over the other parts for the table, and its gain over trial 0."""
    gain, error = report.gain(trial)
    mean = sum(trial.again) / len(trial.again)
    return {
        "trial": trial.number,
        report.metric: mean,
        "gain over trial 0": gain,
        "+-": error,
    }


def _as_dict(report: "TuneReport") -> dict[str, Any]:
    """Return a study for JSON."""
    return {
        "study": report.study,
        "metric": report.metric,
        "best": report.best.settings if report.best else {},
        "trials": [vars(trial) for trial in report.trials],
    }


COMMANDS = (tune,)
