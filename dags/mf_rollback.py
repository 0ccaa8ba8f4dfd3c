"""# Roll back

Makes an earlier published version of the recommendations live again. The form lists the versions
that are kept. Leave `model_version` empty for the one that was live before; a second rollback goes
back one more version. Readers see the change with their next query. Nothing is trained, copied or
deleted.

## Triage

- *can't roll back to version N*: it was retired since the form was read, or is live already. The
  log names the versions that are kept, `publish.keep_versions` of them.
- *The form lists no versions*: the warehouse did not answer when the DAG file was read. A number
  may be typed all the same.
- *Another version went live meanwhile*: look at the console, and trigger again if it is still
  wanted.
- The next nightly run trains and publishes as usual. Pause `mf_retrain` to keep an old version
  live.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from mf_core.records import RollbackReport
from mf_dags.alerts import alert_failure
from mf_dags.assets import RECOMMENDATIONS
from mf_dags.failures import told
from mf_dags.metrics import send_state
from mf_dags.retries import RETRY_ARGS
from mf_dags.rollbacks import chosen_version, version_param
from mf_dags.runtime import place


@task(execution_timeout=timedelta(minutes=15), outlets=[RECOMMENDATIONS])
@told
def rollback(*, params=None, outlet_events=None) -> RollbackReport:  # type: ignore[no-untyped-def]
    """Make the wanted version live, and tell the DAGs that wait for it."""
    from dataclasses import asdict

    from mf_core import pipeline

    here = place()
    report = pipeline.rollback(here, chosen_version(params["model_version"]))
    send_state(here)
    outlet_events[RECOMMENDATIONS].extra = asdict(report)
    return report


@dag(
    dag_id="mf_rollback",
    schedule=None,
    # Nothing starts it but a person, who may be in a hurry.
    is_paused_upon_creation=False,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={**RETRY_ARGS, "on_failure_callback": [alert_failure]},
    params={"model_version": version_param()},
    doc_md=__doc__,
    tags=["matrix-factorization"],
)
def mf_rollback() -> None:
    """One task: the pointer moves."""
    rollback()


mf_rollback()
