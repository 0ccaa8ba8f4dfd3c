"""A whole night of `mf_retrain` in this process, with Airflow's client for metrics set up.

Run as a script: the settings are those of MF_CONFIG. The DAG, the steps, the training processes,
the warehouse and the client are the real ones; only the scheduler is Airflow's `dag.test()`.
"""

import os
import sys
from pathlib import Path

DAGS = Path(__file__).resolve().parents[2] / "dags"


def main() -> int:
    """Run the night; return 0 if it succeeded."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.configuration import conf
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils
    from airflow.utils.db import initdb

    # As the process of a task does when it begins; `dag.test()` leaves it out.
    stats.initialize(
        factory=stats_utils.get_stats_factory(),
        export_legacy_names=conf.getboolean("metrics", "legacy_names_on"),
    )
    initdb()
    bag = DagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")
    run = bag.dags["mf_retrain"].test()
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.path.insert(0, str(DAGS))
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(DAGS))
    sys.exit(main())
