"""# Roll back

Makes an earlier published version of the recommendations live again. Leave `model_version` empty
for the one that was live before; a second rollback goes back one more version. Readers see the
change with their next query. Nothing is trained, copied or deleted.

## Triage

- *No such version*: it was retired. `publish.keep_versions` says how many versions are kept, and
  the console lists them.
- *Another version went live meanwhile*: look at the console, and trigger again if it is still
  wanted.
- The next nightly run trains and publishes as usual. Pause `mf_retrain` to keep an old version
  live.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from mf_core.records import RollbackReport
from mf_dags.alerts import alert_failure
from mf_dags.assets import RECOMMENDATIONS
from mf_dags.retries import RETRY_ARGS
from mf_dags.runtime import place


@task(execution_timeout=timedelta(minutes=15), outlets=[RECOMMENDATIONS])
def rollback(*, params=None, outlet_events=None) -> RollbackReport:  # type: ignore[no-untyped-def]
    """Make the wanted version live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    report = pipeline.rollback(place(), params["model_version"])
    outlet_events[RECOMMENDATIONS].extra = asdict(report)
    return report


@dag(
    dag_id="mf_rollback",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={**RETRY_ARGS, "on_failure_callback": [alert_failure]},
    params={
        "model_version": Param(
            None,
            type=["integer", "null"],
            minimum=1,
            description="Version to make live; empty: the one that was live before.",
        )
    },
    doc_md=__doc__,
    tags=["matrix-factorization"],
)
def mf_rollback() -> None:
    """One task: the pointer moves."""
    rollback()


mf_rollback()
