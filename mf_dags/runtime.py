"""How a task finds its settings, its warehouse and its artifact root.

Call these functions inside task bodies only: while a DAG file is parsed there is no run.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk import Connection, get_current_context

from mf_core.config import Config
from mf_core.errors import ConfigError
from mf_dags.features import AirflowNotFoundException
from mf_dags.metrics import send_progress
from mf_dags.params import config_from_params
from mf_dags.sites import current_site, site_of

if TYPE_CHECKING:
    from mf_core.catalogue import Catalogue
    from mf_core.deployment import Deployment
    from mf_core.pipeline import Workplace
    from mf_core.records import Progress
    from mf_core.sources.reach import Reach

log = structlog.get_logger("mf_retrain")


def run_config() -> Config:
    """Return the settings of the DAG run that this task belongs to.

    Raises:
        ConfigError: a value out of its bounds, an unknown name or source, settings that
            contradict each other, or a setting that the DAG could not be made from.
    """
    # Made from a default instead, a DAG must not train where and when nobody wanted it.
    if problem := current_site().problem:
        raise ConfigError(problem)
    context = get_current_context()
    deployment = the_deployment()
    config = config_from_params(deployment.from_form(context["params"]))
    return deployment.with_named_source(config)


def the_deployment() -> "Deployment":
    """Return what the operator says in the catalogue's settings file. Raises ConfigError."""
    from mf_core.deployment import load_deployment

    return load_deployment(current_site().settings_file)


def source_reach() -> "Reach":
    """Return what the run's source may reach: its settings may be those of who triggered it."""
    from mf_core.sources.reach import Reach

    return Reach(the_deployment(), by_trigger=True, find_connection=_connection_uri)


def require_allowed_source(config: Config) -> None:
    """Make sure, before any work, that whoever triggered the run may use its source.

    Where the source is opened, it is judged again.

    Raises:
        ConfigError: they may not. The message names the setting and says what to do.
    """
    source_reach().judge(config)


def run_key() -> str:
    """Return the id of the DAG run, which makes a repeated split find its first result."""
    context = get_current_context()
    return str(context["run_id"])


def place(reach: "Reach | None" = None) -> "Workplace":
    """Return the warehouse and the artifact root that the steps work on, and who acts.

    `reach` is for the step that opens a source. The others need no settings file for what they do,
    a rollback among them, and may open none but that of the demo.
    """
    from mf_core import pipeline
    from mf_core.deployment import Deployment
    from mf_core.sources.reach import Reach

    catalogue = current_site().catalogue
    return pipeline.workplace(
        database_url=find_warehouse(catalogue),
        artifact_root=common_artifact_root(),
        log=say,
        actor=actor(get_current_context()),
        reach=reach or Reach(Deployment(), by_trigger=True),
        catalogue=catalogue,
    )


def place_of_callback(context: Mapping[str, Any]) -> "Workplace":
    """Return the workplace of a failure callback, which keeps nobody waiting; it has no artifacts.

    Raises:
        ConfigError: no warehouse is named here.
    """
    from mf_core import pipeline
    from mf_core.warehouse.impatient import impatient

    catalogue = site_of(context["task_instance"].dag_id).catalogue
    place = pipeline.workplace(
        find_warehouse(catalogue), log=say, actor=actor(context), catalogue=catalogue
    )
    impatient(place.engine)
    return place


def actor(context: Mapping[str, Any]) -> str:
    """Return the Airflow user who triggered the run, or how it came about."""
    dag_run = context["dag_run"]
    user = getattr(dag_run, "triggering_user_name", None)
    if user:
        return str(user)
    # The context of a task has an enumeration, that of a callback may have its text.
    run_type = getattr(dag_run.run_type, "value", dag_run.run_type)
    return f"Airflow ({run_type})"


def failed_steps() -> list[str]:
    """Return the tasks of this run that have failed so far, in the order of the DAG."""
    context = get_current_context()
    run_id = context["run_id"]
    dag = context["dag"]
    states = context["ti"].get_task_states(dag_id=dag.dag_id, run_ids=[run_id])[run_id]

    # An instance of a mapped task stands there as TASK_INDEX.
    failed = [name for name, state in states.items() if state == "failed"]
    order = [task.task_id for task in dag.topological_sort()]
    return [step for step in order if any(_is_of(step, name) for name in failed)]


def _is_of(task_id: str, name: str) -> bool:
    mapped, _, index = name.rpartition("_")
    return name == task_id or (mapped == task_id and index.isdecimal())


def say(line: str) -> None:
    """Put a line into the task's log."""
    log.info(line)


def show_progress(progress: "Progress") -> None:
    """Tell how far a fit is: a sentence for people, the figures as data, its pace as a metric."""
    from dataclasses import asdict

    log.info(progress.sentence(), progress=asdict(progress))
    send_progress(progress)


def artifact_root() -> str:
    """Return the URI under which the snapshots and models of the task's catalogue lie."""
    return current_site().catalogue.artifacts(common_artifact_root())


def common_artifact_root() -> str:
    """Return the URI of all catalogues' artifacts; every worker must reach the same one."""
    root = os.environ.get("MF_ARTIFACT_ROOT")
    if not root:
        raise ConfigError(
            "MF_ARTIFACT_ROOT is not set; name a folder or a URI (file://, s3://, gs://) "
            "that all workers share."
        )
    return root


def find_warehouse(catalogue: "Catalogue") -> str:
    """Return the SQLAlchemy URL of a catalogue's warehouse.

    Raises:
        ConfigError: none is named.
    """
    from mf_core.warehouse import warehouse_url

    return warehouse_url(os.environ, _connection_uri, catalogue)


def _connection_uri(connection_id: str) -> str | None:
    """Return the URI of an Airflow connection; None if there is no such connection."""
    try:
        connection = Connection.get(connection_id)
        return str(connection.get_uri())
    except AirflowNotFoundException:
        return None
