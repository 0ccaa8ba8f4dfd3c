"""What a run waits for without a word: a pool that does not exist.

Airflow leaves a task of such a pool in `scheduled`, and says so in the scheduler's log only.

Annotations must stay real objects here: FastAPI reads them.
"""

from typing import Annotated

import sqlalchemy as sa
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from fastapi import Depends

from mf_console.access import Asked


def missing_pools(asked: Asked) -> list[str]:
    """Return the pools that tasks of the catalogue's DAG wait for and that nobody has made."""
    waiting = sa.select(TaskInstance.pool).where(
        TaskInstance.dag_id == asked.retrain_id,
        TaskInstance.state == "scheduled",
        TaskInstance.pool.not_in(sa.select(Pool.pool)),
    )
    with create_session() as session:
        return sorted(set(session.scalars(waiting)))


MissingPools = Annotated[list[str], Depends(missing_pools)]
