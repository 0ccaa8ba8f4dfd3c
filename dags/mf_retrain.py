"""The nightly retrain of the default catalogue, as Airflow DAGs: `mf_retrain` and `mf_rollback`."""

from mf_dags import retrain_dag

retrain_dag()
