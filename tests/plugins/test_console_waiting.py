"""The console says what a run waits for, where Airflow keeps that to its scheduler's log."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

Get = Callable[..., httpx.Response]


@pytest.fixture
def waiting(airflow_app: Any) -> Iterator[Callable[..., None]]:
    """Give what puts a task of a DAG into `scheduled`, in a pool; all goes afterwards."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from .test_console_catalogues import _a_bundle

    def wait(dag_id: str, pool: str) -> None:
        with create_session() as session:
            if session.get(DagModel, dag_id) is None:
                session.add(DagModel(dag_id=dag_id, bundle_name=_a_bundle(session)))
            run_id = uuid.uuid4().hex
            session.add(DagRun(dag_id=dag_id, run_id=run_id, run_type="manual"))
            session.flush()
            task = {"id": uuid.uuid4(), "task_id": "train", "dag_id": dag_id, "run_id": run_id}
            task |= {"map_index": -1, "pool": pool, "pool_slots": 1, "state": "scheduled"}
            session.execute(sa.insert(TaskInstance.__table__).values(**task))

    yield wait
    with create_session() as session:
        for model in (TaskInstance, DagRun, DagModel):
            session.execute(sa.delete(model).where(model.dag_id.like("mf_retrain%")))


def missing(get: Get) -> Any:
    """Return the pools that the console's page says are missing."""
    answer = get("/mf/api/overview")
    assert answer.status_code == 200, answer.text
    return answer.json()["missing_pools"]


@pytest.mark.usefixtures("warehouse")
def test_a_pool_that_nobody_made_is_named(get: Get, waiting: Callable[..., None]) -> None:
    assert missing(get) == []
    waiting("mf_retrain", "default_pool")
    assert missing(get) == []
    waiting("mf_retrain", "gpu % 'x'")
    waiting("mf_retrain_films", "of films")
    assert missing(get) == ["gpu % 'x'"]
