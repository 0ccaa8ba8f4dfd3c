"""`mf ingest`, `check`, `split`, `train`, `evaluate`, `gate`, `recommend`, `publish`, and `run` for all of them."""

import uuid
from typing import Any

import click

from mf_core.cli.options import json_option, open_workplace, settings_options, show
from mf_core.config import Config

_version_option = click.option(
    "--version",
    "version",
    type=int,
    help="Model version; the newest that is ready for the step if absent.",
)
_key_option = click.option(
    "--key", default=None, help="Name of the run; a killed run goes on under its own name."
)


@click.command()
@json_option
@settings_options
def ingest(config: Config, as_json: bool) -> None:
    """Load the source into the ratings table."""
    from mf_core import pipeline

    with open_workplace() as place:
        show(pipeline.ingest(config, place), as_json)


@click.command()
@json_option
@settings_options
def check(config: Config, as_json: bool) -> None:
    """Refuse ratings that are not fit to train on."""
    from mf_core import pipeline

    with open_workplace() as place:
        show(pipeline.check(config, place), as_json)


@click.command()
@_key_option
@json_option
@settings_options
def split(config: Config, key: str | None, as_json: bool) -> None:
    """Freeze the ratings as a train/test snapshot and open a model version."""
    from mf_core import pipeline

    with open_workplace() as place:
        show(pipeline.split(config, place, key or _new_key()), as_json)


@click.command()
@_version_option
@json_option
@settings_options
def train(config: Config, version: int | None, as_json: bool) -> None:
    """Fit both heads of a version on its training rows."""
    from mf_core import pipeline, registry
    from mf_core.warehouse import transaction

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("created", "trained"))
        model = pipeline.train(config, place.artifact_root, split_ref, place.log)
        with transaction(place.engine) as connection:
            registry.save_artifacts(connection, model, split_ref.split_id)
            registry.set_trained(connection, model)
        show(model, as_json)


@click.command()
@_version_option
@json_option
@settings_options
def evaluate(config: Config, version: int | None, as_json: bool) -> None:
    """Measure a version, its baselines and the champion on the test rows."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("trained", "evaluated"))
        show(
            pipeline.evaluate(config, place, split_ref, _model_of(place, split_ref.model_version)),
            as_json,
        )


@click.command()
@_version_option
@json_option
@settings_options
def gate(config: Config, version: int | None, as_json: bool) -> None:
    """Decide whether a version may be published; exit code 5 if not."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("evaluated", "refused", "approved"))
        show(
            pipeline.gate(config, place, _report_of(place, config, split_ref.model_version)),
            as_json,
        )


@click.command()
@click.argument("user_id", required=False)
@click.option("-n", "n", type=click.IntRange(min=1), help="Length of the list.")
@_version_option
@json_option
@settings_options
def recommend(
    config: Config, user_id: str | None, n: int | None, version: int | None, as_json: bool
) -> None:
    """Show USER_ID's recommendations; without one, refit an approved version and write its lists for `mf publish`."""
    from mf_core import pipeline, registry
    from mf_core.warehouse import transaction

    with open_workplace() as place:
        if user_id is not None:
            with transaction(place.engine) as connection:
                found = registry.recommendations_for(connection, user_id, n)
            if not found and not as_json:
                click.echo("nothing is published yet; `mf run` makes the first version", err=True)
            show(found, as_json)
            return
        split_ref = _split_of(place, version, ("approved",))
        model = _model_of(place, split_ref.model_version)
        refitted = pipeline.refit(config, place.artifact_root, split_ref, model, place.log)
        shards = pipeline.prepare(config, place, split_ref, model, refitted)
        rows = sum(pipeline.recommend_shard(config, place, refitted, shard) for shard in shards)
        pipeline.verify(config, place, refitted)
        show({"model_version": split_ref.model_version, "rows": rows}, as_json)


@click.command()
@_version_option
@json_option
@settings_options
def publish(config: Config, version: int | None, as_json: bool) -> None:
    """Let a version whose lists were written and verified go live; exit code 6 if another run came first too often."""
    from mf_core import pipeline

    with open_workplace() as place:
        split_ref = _split_of(place, version, ("approved",))
        show(
            pipeline.publish(
                config, place, split_ref, _report_of(place, config, split_ref.model_version)
            ),
            as_json,
        )


@click.command()
@_key_option
@json_option
@settings_options
def run(config: Config, key: str | None, as_json: bool) -> None:
    """Run all steps in this process, without Airflow."""
    from mf_core import pipeline

    run_key = key or _new_key()
    with open_workplace() as place:
        place.log(f"run {run_key}: if it is killed, `mf run --key {run_key}` goes on with it")
        show(pipeline.run_all(config, place, run_key), as_json)


COMMANDS = (run, ingest, check, split, train, evaluate, gate, recommend, publish)


def _new_key() -> str:
    return f"cli-{uuid.uuid4().hex[:12]}"


def _split_of(place: Any, version: int | None, states: tuple[str, ...]) -> Any:
    from mf_core import registry
    from mf_core.warehouse import transaction

    with transaction(place.engine) as connection:
        return registry.load_split_ref(
            connection, version or registry.latest_version(connection, states)
        )


def _model_of(place: Any, version: int) -> Any:
    from mf_core import registry
    from mf_core.warehouse import transaction

    with transaction(place.engine) as connection:
        return registry.load_model_ref(connection, version, "evaluated")


def _report_of(place: Any, config: Config, version: int) -> Any:
    from mf_core import registry
    from mf_core.warehouse import transaction

    with transaction(place.engine) as connection:
        champion = registry.judged_against(connection, version)
        return registry.eval_report(
            version, champion, registry.load_figures(connection, version), config.gate.cutoff
        )
