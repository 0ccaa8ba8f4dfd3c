"""The DAG factory, and what its tasks share.

A DAG file needs one call, and the word `airflow` somewhere: Airflow's safe mode
(`[core] dag_discovery_safe_mode`) skips files that lack it, without a word.

    from mf_dags import retrain_dag  # makes DAGs of Airflow

    retrain_dag("films", config="films.toml", schedule="30 1 * * *")
"""

from mf_core.extras import AIRFLOW

AIRFLOW.require()

from mf_dags.factory import retrain_dag  # noqa: E402 (what it needs comes first)

__all__ = ["retrain_dag"]
