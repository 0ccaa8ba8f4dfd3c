"""`mf tune`: choose settings on a validation part of the training rows."""

from typing import Any

import click

from mf_core.cli.options import json_option, open_workplace, print_table, settings_options, show
from mf_core.config import Config, make_config

_SHOWN = 10


@click.command()
@click.option(
    "--head",
    type=click.Choice(["rating", "ranking"]),
    default="rating",
    show_default=True,
    help="Head whose settings to choose.",
)
@click.option("--solver", help="Solver of the rating head; as configured if absent.")
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
    help="Fewer trials than the time allows; 0: only compare again.",
)
@click.option(
    "--parts",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Other validation parts that the best are fitted again on, in the last third of the time.",
)
@click.option(
    "--study",
    help="Name of the study; one that is there goes on. Named after rows and settings if absent.",
)
@click.option(
    "--train",
    "train_file",
    help="File or URI of training ratings; those in the warehouse if absent.",
)
@click.option(
    "--show",
    "show_only",
    is_flag=True,
    help="Show the study, or list all of them, and search for nothing.",
)
@json_option
@settings_options
def tune(
    config: Config,
    head: str,
    solver: str | None,
    minutes: float,
    trials: int | None,
    parts: int,
    study: str | None,
    train_file: str | None,
    show_only: bool,
    as_json: bool,
) -> None:
    """Search for better settings of one head; prints the best ones for the file named by MF_CONFIG.

    Judges on a tenth of the training ratings, and the five best and the present settings again on other tenths, where who is best
    is decided; test ratings are never looked at. Results stay in the warehouse: the same study goes on where it stopped, and
    several processes may work on one.
    """
    from mf_core import tune as tuning

    with open_workplace() as place:
        if show_only:
            shown = tuning.show(place.engine, study) if study else tuning.studies(place.engine)
        else:
            config = make_config({"rating_head.solver": solver} if solver else {}, config)
            rows = (
                tuning.read_training_file(config, train_file)
                if train_file
                else tuning.read_warehouse(config, place.engine)
            )
            task = tuning.make_task(config, head, rows)  # type: ignore[arg-type]
            study = study or task.default_study()
            place.log(
                f"study {study}: {len(task.fitted):,} ratings to fit, {len(task.validation):,} to judge by {task.metric}"
            )
            shown = tuning.tune(task, place.engine, study, 60 * minutes, place.log, max_trials=trials, parts=parts)
    if isinstance(shown, list) or as_json:
        show(shown if isinstance(shown, list) else _as_dict(shown), as_json)
    else:
        _print(shown)


def _print(report: Any) -> None:
    """Print the best trials, the first one among them, how they compare on other parts, and the best settings."""
    best = report.finished
    listed = best[:_SHOWN] + [trial for trial in best[_SHOWN:] if trial.as_begun]
    print_table(
        [
            {
                "trial": trial.number,
                report.metric: trial.value,
                "iterations": trial.iterations,
                "seconds": trial.seconds,
                **{name.rpartition(".")[2]: value for name, value in trial.settings.items()},
            }
            for trial in listed
        ]
    )
    if report.compared:
        click.echo(f"\nagain, mean of {len(report.compared[0].again)} other parts:\n")
        print_table([_comparison(report, trial) for trial in report.compared])
    click.echo(
        f"\nstudy {report.study}: {len(report.trials)} trials, {len(best)} ran to the end; trial 0: as it began\n"
    )
    click.echo(report.best_toml() or "no trial has finished; run it again with more --minutes")


def _comparison(report: Any, trial: Any) -> dict[str, Any]:
    gain, error = report.gain(trial)
    return {
        "trial": trial.number,
        report.metric: sum(trial.again) / len(trial.again),
        "gain over trial 0": gain,
        "+-": error,
    }


def _as_dict(report: Any) -> dict[str, Any]:
    return {
        "study": report.study,
        "metric": report.metric,
        "best": report.best.settings if report.best else {},
        "trials": [vars(trial) for trial in report.trials],
    }


COMMANDS = (tune,)
