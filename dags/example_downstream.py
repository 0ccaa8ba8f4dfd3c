"""# Example of a consumer

Starts whenever new recommendations are live, reads them as any other system would (by SQL on the
view `mf.recommendations`), and logs what the event says about them. Copy it as a start for mails,
caches or a search index.

## Triage

- It does not start: an asset triggers no DAG that is paused, so unpause this one.
- *permission denied*: set `MF_READER_DATABASE_URL` to the read-only role's URL.
"""

import os
from datetime import timedelta

from airflow.sdk import dag, task

from mf_core.catalogue import DEFAULT
from mf_dags.alerts import alert_failure
from mf_dags.failures import told
from mf_dags.retries import RETRY_ARGS
from mf_dags.runtime import find_warehouse, say
from mf_dags.sites import Site

# Of the default catalogue; of another: Site(Catalogue("films")), and the schema mf_films below.
SITE = Site(DEFAULT)
COUNT_USERS = "SELECT count(DISTINCT user_id) FROM mf.recommendations"


@task(execution_timeout=timedelta(minutes=15))
@told
def read_recommendations(*, triggering_asset_events=None) -> int:  # type: ignore[no-untyped-def]
    """Log the event's metrics and count the lists.

    Returns the number of users who have a list.
    """
    import sqlalchemy as sa

    url = os.environ.get("MF_READER_DATABASE_URL") or find_warehouse(SITE.catalogue)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        users = connection.execute(sa.text(COUNT_USERS)).scalar_one()

    # Several publications between two runs make one run with several events.
    for event in triggering_asset_events[SITE.recommendations]:
        say(f"{users} users have recommendations; the event says {event.extra}.")
    return int(users)


@dag(
    dag_id="example_downstream",
    schedule=[SITE.recommendations],
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={**RETRY_ARGS, "on_failure_callback": [alert_failure]},
    doc_md=__doc__,
    tags=["matrix-factorization", "example"],
)
def example_downstream() -> None:
    """One task that reads the view."""
    read_recommendations()


example_downstream()
