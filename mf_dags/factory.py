"""The DAG factory: what one call in a DAG file makes of a catalogue."""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from mf_core.catalogue import Catalogue
from mf_core.deployment import Deployment, load_deployment
from mf_dags import lineage, tasks
from mf_dags.alerts import alert_failure, alert_timeout, record_failure
from mf_dags.features import CronTriggerTimetable
from mf_dags.params import trigger_params
from mf_dags.retries import RETRY_ARGS
from mf_dags.rollbacks import version_param
from mf_dags.sites import Site, register
from mf_dags.texts import triage
from mf_dags.training import Training, find_training

FROM_ENVIRONMENT = "MF_SCHEDULE"
NIGHTLY = "0 2 * * *"


def retrain_dag(
    catalogue: str = "",
    *,
    config: str | Path = "",
    schedule: Any = FROM_ENVIRONMENT,
    train: Mapping[str, Any] | None = None,
) -> DAG:
    """Make the DAGs of a catalogue: the nightly retrain, and the way back to an earlier version.

    Both announce one asset, `mf_recommendations`, when other lists are live. The names of DAGs,
    asset and connections end in the catalogue's: `mf_retrain_films`.

    Args:
        catalogue: its name; "": the default one, whose names have no such end.
        config: its settings file, or several parted as in PATH. What is no absolute path lies
            beside the DAG file. "": what MF_CONFIG says, of a catalogue films MF_CONFIG_FILMS.
        schedule: when nights begin: a cron expression (UTC), whatever else Airflow's DAG takes, or
            None for never. By default what MF_SCHEDULE says, of films MF_SCHEDULE_FILMS, and
            where that says nothing two o'clock.
        train: where `train` and `refit` run: `queue`, `pool`, `executor`, `executor_config`; what
            it does not say is as MF_TRAIN_QUEUE, MF_TRAIN_POOL, MF_TRAIN_EXECUTOR and
            MF_TRAIN_POD (a file with what their pods have more) have it, and otherwise as for any
            other task.

    Returns:
        The DAG that trains.

    Raises:
        ConfigError: a name or a setting that can't be.
    """
    site = Site(Catalogue(catalogue), _beside(Path(sys._getframe(1).f_code.co_filename), config))
    register(site)
    training = find_training(train or {}, os.environ, site.catalogue)
    _rollback(site, training)
    return _retrain(site, _timetable(schedule, site.catalogue), training)


def _beside(dag_file: Path, config: str | Path) -> str:
    """Return `config` with its paths made absolute, as seen from the folder of the DAG file."""
    parts = [part for part in str(config).split(os.pathsep) if part]
    return os.pathsep.join(str(dag_file.parent / part) for part in parts)


def _timetable(schedule: Any, catalogue: Catalogue) -> Any:
    """Return when nights begin, as Airflow's DAG takes it."""
    if schedule == FROM_ENVIRONMENT:
        schedule = os.environ.get(catalogue.variable(FROM_ENVIRONMENT)) or NIGHTLY
    if not isinstance(schedule, str):
        return schedule
    # Unpausing must start no missed run. `run_immediately` turns off the run that was "just
    # missed", by default within a tenth of the interval.
    return CronTriggerTimetable(schedule, timezone="UTC", run_immediately=timedelta())


def _retrain(site: Site, timetable: Any, training: Training) -> DAG:
    deployment = load_deployment(site.settings_file)
    with DAG(
        dag_id=site.retrain_id,
        schedule=timetable,
        # There is none in the past to catch up from.
        start_date=None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=20),
        default_args={**RETRY_ARGS, "on_failure_callback": [record_failure, alert_failure]},
        on_failure_callback=alert_timeout,
        params=trigger_params(deployment.config),
        doc_md=triage("retrain", site, training),
        tags=site.tags,
    ) as dag:
        _wire(site, deployment, training)
    return dag


def _wire(site: Site, deployment: Deployment, training: Training) -> None:
    """Put the tasks of a night in order."""
    ratings = lineage.table(site.catalogue, "ratings")
    lists = lineage.table(site.catalogue, "recommendations")
    source = deployment.with_named_source(deployment.config).source
    ingest = tasks.ingest.override(inlets=lineage.inputs_of(source), outlets=[ratings])
    train = tasks.train.override(**training.arguments())
    refit = tasks.refit.override(**training.arguments())
    publish = tasks.publish.override(inlets=[ratings], outlets=[site.recommendations, lists])

    snapshot = tasks.split()
    model = train(snapshot)
    report = tasks.evaluate(snapshot, model)
    refitted = refit(snapshot, model)
    shards = tasks.prepare(snapshot, model, refitted)
    written = tasks.recommend.partial(refitted=refitted).expand(shard=shards)

    tasks.start() >> ingest() >> tasks.check() >> snapshot >> tasks.has_news(snapshot) >> model
    tasks.gate(report) >> tasks.is_for_real() >> refitted
    published = publish(snapshot, report)
    written >> tasks.verify(refitted) >> published >> tasks.close().as_teardown()


def _rollback(site: Site, training: Training) -> None:
    """Make the DAG that goes back to an earlier version."""
    with DAG(
        dag_id=site.rollback_id,
        schedule=None,
        # Nothing starts it but a person, who may be in a hurry.
        is_paused_upon_creation=False,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=1),
        default_args={**RETRY_ARGS, "on_failure_callback": [alert_failure]},
        params={"model_version": version_param(site)},
        doc_md=triage("rollback", site, training),
        tags=site.tags,
    ):
        tasks.rollback.override(outlets=[site.recommendations])()
