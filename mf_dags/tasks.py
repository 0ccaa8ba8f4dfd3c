"""The tasks of the nightly retrain and of a rollback: each calls one step of the pipeline.

`mf_dags.factory` wires them. Heavy imports are in the bodies: Airflow reads this file often.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import ParamSpec, TypeVar

from airflow.sdk import task

from mf_core.errors import ConfigError
from mf_core.records import (
    EvalReport,
    IngestReport,
    ModelRef,
    PublishReport,
    QualityReport,
    RollbackReport,
    SplitRef,
    Verdict,
)
from mf_dags.failures import told
from mf_dags.lineage import name_inputs
from mf_dags.metrics import measured, send_state
from mf_dags.rollbacks import chosen_version
from mf_dags.runtime import (
    artifact_root,
    failed_steps,
    place,
    require_allowed_source,
    run_config,
    run_key,
    say,
    show_progress,
    source_reach,
)
from mf_dags.sites import current_site

QUICK = timedelta(minutes=15)
SLOW = timedelta(hours=2)
TRAINING = timedelta(hours=6)

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Let a step of the pipeline tell its failure in the log, and its figures as metrics."""
    return told(measured(function))


@task(execution_timeout=QUICK)
@step
def start() -> None:
    """Put the run on record, and refuse by name what it can't honour, before any work."""
    from mf_core import pipeline

    here = place()
    pipeline.start_run(here, run_key())
    config = run_config()
    require_allowed_source(config)
    pipeline.check_settings(config, here)
    say(f"start: run {run_key()} is on record, and its settings can be honoured")


@task(execution_timeout=SLOW)
@step
def ingest() -> IngestReport:
    """Load the source into `mf.ratings`."""
    from mf_core import pipeline

    config = run_config()
    name_inputs(config)
    return pipeline.ingest(config, place(source_reach()), run_key())


@task(execution_timeout=QUICK)
@step
def check() -> QualityReport:
    """Refuse ratings that are not fit to train on."""
    from mf_core import pipeline

    return pipeline.check(run_config(), place())


@task(execution_timeout=SLOW)
@step
def split() -> SplitRef:
    """Freeze the ratings as a train/test snapshot."""
    from mf_core import pipeline

    return pipeline.split(run_config(), place(), run_key())


@task.short_circuit(execution_timeout=QUICK)
@step
def has_news(snapshot: SplitRef) -> bool:
    """Skip the rest if the live version has the same snapshot and the same settings."""
    goes_on = snapshot.news or run_config().run.force
    say(f"has_news: {'the run goes on' if goes_on else 'nothing new, the rest is skipped'}")
    return goes_on


@task(execution_timeout=TRAINING)
@step
def train(snapshot: SplitRef) -> ModelRef:
    """Fit both heads on the training rows; needs no database."""
    from mf_core import pipeline

    return pipeline.train(
        run_config(),
        artifact_root(),
        snapshot,
        log=say,
        progress=show_progress,
    )


@task(execution_timeout=SLOW)
@step
def evaluate(snapshot: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, the baselines and the champion on the test rows."""
    from mf_core import pipeline

    return pipeline.evaluate(run_config(), place(), snapshot, model)


@task(execution_timeout=QUICK)
@step
def gate(report: EvalReport) -> Verdict:
    """Fail the run if the candidate may not be published."""
    from mf_core import pipeline

    return pipeline.gate(run_config(), place(), report)


@task.short_circuit(execution_timeout=QUICK)
@step
def is_for_real() -> bool:
    """Skip the rest of a dry run."""
    dry_run = run_config().run.dry_run
    say(f"is_for_real: {'a dry run, the rest is skipped' if dry_run else 'the run goes on'}")
    return not dry_run


@task(execution_timeout=TRAINING)
@step
def refit(snapshot: SplitRef, model: ModelRef) -> ModelRef:
    """Fit both heads on all ratings; needs no database."""
    from mf_core import pipeline

    return pipeline.refit(
        run_config(),
        artifact_root(),
        snapshot,
        model,
        log=say,
        progress=show_progress,
    )


@task(execution_timeout=SLOW)
@step
def prepare(snapshot: SplitRef, model: ModelRef, refitted: ModelRef) -> list[int]:
    """Judge the refit and make the new version's table; returns the shards to fill it with."""
    from mf_core import pipeline

    return pipeline.prepare(run_config(), place(), snapshot, model=model, refitted=refitted)


@task(execution_timeout=SLOW)
@step
def recommend(refitted: ModelRef, shard: int) -> int:
    """Write one shard of the lists; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.recommend_shard(run_config(), place(), refitted, shard)


@task(execution_timeout=SLOW)
@step
def verify(refitted: ModelRef) -> int:
    """Check the new version's table by SQL before readers see it; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.verify(run_config(), place(), refitted)


# May have to judge again, if another run went live meanwhile.
@task(execution_timeout=SLOW)
@step
def publish(  # type: ignore[no-untyped-def]
    snapshot: SplitRef, report: EvalReport, *, outlet_events=None
) -> PublishReport:
    """Let the new version go live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    published = pipeline.publish(run_config(), place(), snapshot, report)
    outlet_events[current_site().recommendations].extra = asdict(published)
    return published


# A teardown: it runs however the run ends, and its outcome doesn't count for the run's.
@task(execution_timeout=QUICK)
@step
def close() -> int | None:
    """Put on record how the run ended; mark a version that got stuck on the way as stopped."""
    from mf_core import pipeline

    here = place()
    stopped = pipeline.close_run(here, run_key(), failed_steps())
    send_state(here)
    # What is wrong with the settings, `start` has told.
    with suppress(ConfigError):
        pipeline.clean_up_after(run_config(), here, run_key())
    return stopped


@task(execution_timeout=QUICK)
@step
def rollback(*, params=None, outlet_events=None) -> RollbackReport:  # type: ignore[no-untyped-def]
    """Make the wanted version live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    here = place()
    report = pipeline.rollback(here, chosen_version(params["model_version"]))
    send_state(here)
    outlet_events[current_site().recommendations].extra = asdict(report)
    return report
