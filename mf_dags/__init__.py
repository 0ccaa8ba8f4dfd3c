"""The DAG factory, and what its tasks share.

A DAG file needs one call:

    from mf_dags import retrain_dag

    retrain_dag("films", config="films.toml", schedule="30 1 * * *")
"""

from mf_core.extras import AIRFLOW

AIRFLOW.require()

from mf_dags.factory import retrain_dag  # noqa: E402 (what it needs comes first)

__all__ = ["retrain_dag"]
