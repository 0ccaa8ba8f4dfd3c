"""Airflow with a home folder of its own, and the project's DAGs, parsed once."""

import os
import sys
from pathlib import Path

import pytest

from tests.airflow_home import use_own_airflow_home

DAGS = Path(__file__).resolve().parents[2] / "dags"
use_own_airflow_home()
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault(
    "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "airflow.* mf_core.records.*"
)
os.environ.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(DAGS))
# As docker-compose.yaml has it.
os.environ["MF_TRAIN_QUEUE"] = os.environ["MF_TRAIN_POOL"] = "gpu"
# The DAG processor and the workers put the bundle's folder on the path, too.
sys.path.insert(0, str(DAGS))


# What Airflow itself calls by deprecated names: pathspec for .airflowignore, and Starlette's test
# client for `dag.test()`.
UPSTREAM_WARNINGS = (
    "ignore:GitWildMatchPattern:DeprecationWarning",
    "ignore:Using .httpx. with .starlette.testclient.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep warnings errors, except Airflow's own."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for warning in UPSTREAM_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def dagbag():  # type: ignore[no-untyped-def]
    """All DAG files, parsed."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="session")
def retrain(dagbag):  # type: ignore[no-untyped-def]
    """The DAG `mf_retrain`."""
    return dagbag.dags["mf_retrain"]
