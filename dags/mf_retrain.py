"""# Nightly retrain

    ingest -> check -> split -> train -> evaluate -> gate -> refit -> recommend -> verify -> publish

Ratings go into Postgres, are checked and split; two heads of matrix factorization are trained and judged on held-out
ratings; the top-N lists of an approved model go live as a new version of `mf.recommendations`.

**A failed run leaves what readers see as it was.** Nothing goes live before the last task.

## Triage

| red task | what it means | what to do |
| --- | --- | --- |
| `ingest` | the source was refused, nothing was loaded | look at `mf.rejected_ratings`, repair the source, trigger again |
| `check` | too few ratings, or a jump in their number | look at the source; raise the bound in `data.*` if it is real |
| `train`, `refit` | the trainer failed, or ran out of memory | read the log; clear the task: it resumes from its checkpoint |
| `gate` | the candidate is worse than it may be | read the reasons in the console; yesterday's lists stay live |
| `verify` | a list broke a rule (seen or hidden item, a gap) | nobody has seen it; keep the table for a look |
| `close` | the run's end could not be put on record | nothing; the next run does so within two days |
| `publish` | another version went live meanwhile | nothing, if that one is wanted; else trigger again |
| stuck in `scheduled` | no pool `gpu`, or no worker on queue `gpu` | `airflow pools set gpu 1 "..."`; start the worker |

- Database and I/O errors, and a killed process, are tried again with growing pauses; a refusal is not.
- `has_news` skips the rest, green, if neither the ratings nor the settings have changed; `run.force` trains anyway.
- `run.dry_run` stops, green, after the verdict.
- To go back to an earlier version: trigger `mf_rollback`.
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
from mf_dags.alerts import alert_failure, alert_timeout
from mf_dags.assets import RECOMMENDATIONS
from mf_dags.params import trigger_params
from mf_dags.retries import RETRY_ARGS
from mf_dags.runtime import artifact_root, place, run_config, run_key, say, show_progress

QUICK = timedelta(minutes=15)
SLOW = timedelta(hours=2)
TRAINING = timedelta(hours=6)


@task(execution_timeout=SLOW)
def ingest() -> IngestReport:
    """Load the source into `mf.ratings`."""
    from mf_core import pipeline

    return pipeline.ingest(run_config(), place())


@task(execution_timeout=QUICK)
def check() -> QualityReport:
    """Refuse ratings that are not fit to train on."""
    from mf_core import pipeline

    return pipeline.check(run_config(), place())


@task(execution_timeout=SLOW)
def split() -> SplitRef:
    """Freeze the ratings as a train/test snapshot."""
    from mf_core import pipeline

    return pipeline.split(run_config(), place(), run_key())


@task.short_circuit(execution_timeout=QUICK)
def has_news(snapshot: SplitRef) -> bool:
    """Skip the rest if the live version was made from this very snapshot with these very settings."""
    return snapshot.news or run_config().run.force


@task(execution_timeout=TRAINING, queue="gpu", pool="gpu")
def train(snapshot: SplitRef) -> ModelRef:
    """Fit both heads on the training rows; needs no database."""
    from mf_core import pipeline

    return pipeline.train(run_config(), artifact_root(), snapshot, say, show_progress)


@task(execution_timeout=SLOW)
def evaluate(snapshot: SplitRef, model: ModelRef) -> EvalReport:
    """Measure the candidate, the baselines and the champion on the test rows."""
    from mf_core import pipeline

    return pipeline.evaluate(run_config(), place(), snapshot, model)


@task(execution_timeout=QUICK)
def gate(report: EvalReport) -> Verdict:
    """Fail the run if the candidate may not be published."""
    from mf_core import pipeline

    return pipeline.gate(run_config(), place(), report)


@task.short_circuit(execution_timeout=QUICK)
def is_for_real() -> bool:
    """Skip the rest of a dry run."""
    return not run_config().run.dry_run


@task(execution_timeout=TRAINING, queue="gpu", pool="gpu")
def refit(snapshot: SplitRef, model: ModelRef) -> ModelRef:
    """Fit both heads on all ratings; needs no database."""
    from mf_core import pipeline

    config = run_config()
    return pipeline.refit(config, artifact_root(), snapshot, model, say, progress=show_progress)


@task(execution_timeout=SLOW)
def prepare(snapshot: SplitRef, model: ModelRef, refitted: ModelRef) -> list[int]:
    """Judge the refit and make the new version's table; returns the shards to fill it with."""
    from mf_core import pipeline

    return pipeline.prepare(run_config(), place(), snapshot, model, refitted)


@task(execution_timeout=SLOW)
def recommend(refitted: ModelRef, shard: int) -> int:
    """Write one shard of the lists; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.recommend_shard(run_config(), place(), refitted, shard)


@task(execution_timeout=SLOW)
def verify(refitted: ModelRef) -> int:
    """Check the new version's table by SQL before anybody can see it; returns the number of rows."""
    from mf_core import pipeline

    return pipeline.verify(run_config(), place(), refitted)


# May have to judge again, if another run went live meanwhile.
@task(execution_timeout=SLOW, outlets=[RECOMMENDATIONS])
def publish(snapshot: SplitRef, report: EvalReport, *, outlet_events=None) -> PublishReport:  # type: ignore[no-untyped-def]
    """Let the new version go live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    published = pipeline.publish(run_config(), place(), snapshot, report)
    outlet_events[RECOMMENDATIONS].extra = asdict(published)
    return published


# A teardown: it runs however the run ends, and its outcome doesn't count for the run's.
@task(execution_timeout=QUICK)
def close() -> int | None:
    """Mark the run's version as stopped if it ended before it was published or refused."""
    from mf_core import pipeline

    return pipeline.close_run(place(), run_key())


@dag(
    dag_id="mf_retrain",
    # Unpausing starts no missed run: not by a start date in the past, nor as "just missed" (a tenth of the interval, unless set).
    schedule=CronTriggerTimetable(
        os.environ.get("MF_SCHEDULE", "0 2 * * *"), timezone="UTC", run_immediately=timedelta()
    ),
    start_date=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=20),
    default_args={**RETRY_ARGS, "on_failure_callback": [alert_failure]},
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
    written = recommend.partial(refitted=refitted).expand(shard=prepare(snapshot, model, refitted))
    ingest() >> check() >> snapshot >> has_news(snapshot) >> model
    gate(report) >> is_for_real() >> refitted
    written >> verify(refitted) >> publish(snapshot, report) >> close().as_teardown()


mf_retrain()
