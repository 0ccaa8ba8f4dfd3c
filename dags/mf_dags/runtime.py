"""How a task finds its settings, its warehouse and its artifact root. Called inside task bodies only."""

import os
from typing import TYPE_CHECKING

from airflow.sdk import Connection, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException

from mf_core.config import Config
from mf_core.errors import ConfigError
from mf_dags.params import config_from_params

if TYPE_CHECKING:
    from mf_core.pipeline import Workplace

WAREHOUSE_CONNECTION = "mf_warehouse"


def run_config() -> Config:
    """Return the settings of the DAG run that this task belongs to."""
    return config_from_params(get_current_context()["params"])


def run_key() -> str:
    """Return the id of the DAG run, which makes a repeated split find its first result."""
    return str(get_current_context()["run_id"])


def place() -> "Workplace":
    """Return the warehouse and the artifact root that the steps work on."""
    from mf_core import pipeline

    return pipeline.workplace(warehouse_url(), artifact_root())


def artifact_root() -> str:
    """Return the URI under which snapshots and models lie; every worker must reach the same one."""
    root = os.environ.get("MF_ARTIFACT_ROOT")
    if not root:
        raise ConfigError(
            "MF_ARTIFACT_ROOT is not set; name a folder or a URI (file://, s3://, gs://) that all workers share."
        )
    return root


def warehouse_url() -> str:
    """Return `MF_DATABASE_URL`, or the Airflow connection `mf_warehouse` as a SQLAlchemy URL."""
    url = os.environ.get("MF_DATABASE_URL")
    if url:
        return url
    try:
        connection = Connection.get(WAREHOUSE_CONNECTION)
    except AirflowNotFoundException:
        raise ConfigError(
            f"no warehouse is configured: set MF_DATABASE_URL, or make the Airflow connection {WAREHOUSE_CONNECTION!r}."
        ) from None
    return sqlalchemy_url(connection.get_uri())


def sqlalchemy_url(connection_uri: str) -> str:
    """Return an Airflow connection's URI (`postgres://...`) for SQLAlchemy, without Airflow's own extras."""
    from sqlalchemy.engine import make_url

    # `make_url` before the driver is known would refuse Airflow's scheme only at connect time, so it is set here.
    url = make_url(connection_uri).set(drivername="postgresql+psycopg2")
    return url.difference_update_query(["__extra__"]).render_as_string(hide_password=False)
