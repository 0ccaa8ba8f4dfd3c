"""# Nightly retrain

    start -> ingest -> check -> split -> train -> evaluate -> gate -> refit -> recommend -> verify
          -> publish

Ratings are loaded into Postgres, checked and split. Two heads of matrix factorization are trained
and judged on held-out ratings. The top-N lists of an approved model go live as a new version of
`mf.recommendations`.

**A failed run changes nothing that readers see.** Nothing goes live before the task `publish`.

## Triage

The first ERROR line of a red task's log says what happened, what to do, and where the runbook says
more.

| red task | what it means | what to do |
| --- | --- | --- |
| `start` | a setting can't be honoured; nothing was done | the log names it; trigger again |
| `ingest` | the source was refused | see `mf.rejected_ratings`; repair it, trigger again |
| `check` | too few ratings, or a jump in their number | look at the source, or set `data.*` |
| `train`, `refit` | the trainer failed, or lacked memory | read the log, then clear the task |
| `gate` | the candidate is worse than it may be | read the reasons in the console |
| `verify` | a list has a seen or hidden item, or a gap | nobody has seen it; look at its table |
| `close` | the run's end could not be put on record | nothing; a later run does it in two days |
| `publish` | another version went live meanwhile | nothing, or trigger again to replace it |
| stuck in `scheduled` | no pool `gpu`, or no worker on it | add the pool; start the worker |

- Database and I/O errors, and a killed process, are tried again with growing pauses. A refusal is
  not tried again.
- After a refused source nothing is loaded. After a refused candidate, yesterday's lists stay live.
- `train` and `refit` resume from their checkpoints.
- `has_news` skips the rest, green, if neither ratings nor settings have changed. Set `run.force` to
  train all the same.
- `run.dry_run` stops, green, after the verdict.
- To make the pool: `airflow pools set gpu 1 "one training at a time"`.
- To go back to an earlier version: trigger `mf_rollback`, whose form lists them.
- More: docs/runbook.md.
"""

import os
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from mf_core.config import load_config
from mf_core.records import (
    EvalReport,
    IngestReport,
    ModelRef,
    PublishReport,
    QualityReport,
    SplitRef,
    Verdict,
)
from mf_dags.alerts import alert_failure, alert_timeout, record_failure
from mf_dags.assets import RECOMMENDATIONS
from mf_dags.failures import told
from mf_dags.metrics import send_state
from mf_dags.params import trigger_params
from mf_dags.retries import RETRY_ARGS
from mf_dags.runtime import (
    artifact_root,
    failed_steps,
    place,
    require_allowed_source,
    run_config,
    run_key,
    say,
    show_progress,
)

QUICK = timedelta(minutes=15)
SLOW = timedelta(hours=2)
TRAINING = timedelta(hours=6)


@task(execution_timeout=QUICK)
@told
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
@told
def ingest() -> IngestReport:
    """Load the source into `mf.ratings`."""
    from mf_core import pipeline

    return pipeline.ingest(run_config(), place())


@task(execution_timeout=QUICK)
@told
def check() -> QualityReport:
    """Refuse ratings that are not fit to train on."""
    from mf_core import pipeline

    return pipeline.check(run_config(), place())


@task(execution_timeout=SLOW)
@told
def split() -> SplitRef:
    """Freeze the ratings as a train/test snapshot."""
    from mf_core import pipeline

    return pipeline.split(run_config(), place(), run_key())


@task.short_circuit(execution_timeout=QUICK)
@told
def has_news(snapshot: SplitRef) -> bool:
    """Skip the rest if the live version has the same snapshot and the same settings."""
    goes_on = snapshot.news or run_config().run.force
    say(f"has_news: {'the run goes on' if goes_on else 'nothing new, the rest is skipped'}")
    return goes_on


@task(execution_timeout=TRAINING, queue="gpu", pool="gpu")
@told
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
@told
def evaluate(snapshot: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, the baselines and the champion on the test rows."""
    from mf_core import pipeline

    return pipeline.evaluate(run_config(), place(), snapshot, model)


@task(execution_timeout=QUICK)
@told
def gate(report: EvalReport) -> Verdict:
    """Fail the run if the candidate may not be published."""
    from mf_core import pipeline

    return pipeline.gate(run_config(), place(), report)


@task.short_circuit(execution_timeout=QUICK)
@told
def is_for_real() -> bool:
    """Skip the rest of a dry run."""
    dry_run = run_config().run.dry_run
    say(f"is_for_real: {'a dry run, the rest is skipped' if dry_run else 'the run goes on'}")
    return not dry_run


@task(execution_timeout=TRAINING, queue="gpu", pool="gpu")
@told
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
@told
def prepare(snapshot: SplitRef, model: ModelRef, refitted: ModelRef) -> list[int]:
    """Judge the refit and make the new version's table; returns the shards to fill it with."""
    from mf_core import pipeline

    return pipeline.prepare(run_config(), place(), snapshot, model=model, refitted=refitted)


@task(execution_timeout=SLOW)
@told
def recommend(refitted: ModelRef, shard: int) -> int:
    """Write one shard of the lists; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.recommend_shard(run_config(), place(), refitted, shard)


@task(execution_timeout=SLOW)
@told
def verify(refitted: ModelRef) -> int:
    """Check the new version's table by SQL before readers see it; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.verify(run_config(), place(), refitted)


# May have to judge again, if another run went live meanwhile.
@task(execution_timeout=SLOW, outlets=[RECOMMENDATIONS])
@told
def publish(  # type: ignore[no-untyped-def]
    snapshot: SplitRef, report: EvalReport, *, outlet_events=None
) -> PublishReport:
    """Let the new version go live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    published = pipeline.publish(run_config(), place(), snapshot, report)
    outlet_events[RECOMMENDATIONS].extra = asdict(published)
    return published


# A teardown: it runs however the run ends, and its outcome doesn't count for the run's.
@task(execution_timeout=QUICK)
@told
def close() -> int | None:
    """Put on record how the run ended; mark a version that got stuck on the way as stopped."""
    from mf_core import pipeline

    here = place()
    stopped = pipeline.close_run(here, run_key(), failed_steps())
    send_state(here)
    return stopped


@dag(
    dag_id="mf_retrain",
    # Unpausing must start no missed run. There is no start date in the past to catch up from, and
    # `run_immediately` turns off the run that was "just missed", by default within a tenth of the
    # interval.
    schedule=CronTriggerTimetable(
        os.environ.get("MF_SCHEDULE", "0 2 * * *"),
        timezone="UTC",
        run_immediately=timedelta(),
    ),
    start_date=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=20),
    default_args={**RETRY_ARGS, "on_failure_callback": [record_failure, alert_failure]},
    on_failure_callback=alert_timeout,
    params=trigger_params(load_config(os.environ.get("MF_CONFIG"))),
    doc_md=__doc__,
    tags=["matrix-factorization"],
)
def mf_retrain() -> None:
    """Wire the steps."""
    snapshot = split()
    model = train(snapshot)
    report = evaluate(snapshot, model)
    refitted = refit(snapshot, model)
    shards = prepare(snapshot, model, refitted)
    written = recommend.partial(refitted=refitted).expand(shard=shards)

    start() >> ingest() >> check() >> snapshot >> has_news(snapshot) >> model
    gate(report) >> is_for_real() >> refitted
    written >> verify(refitted) >> publish(snapshot, report) >> close().as_teardown()


mf_retrain()
