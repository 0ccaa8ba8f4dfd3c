"""The DAG factory: what one call in a DAG file makes of a catalogue."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from mf_core.catalogue import Catalogue
from mf_dags import lineage, tasks
from mf_dags.alerts import alert_failure, alert_timeout, record_failure
from mf_dags.params import trigger_params
from mf_dags.plan import FROM_ENVIRONMENT, Plan, make_plan
from mf_dags.retries import RETRY_ARGS
from mf_dags.rollbacks import version_param
from mf_dags.sites import Site, register
from mf_dags.texts import triage


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

    What is wrong with a setting (the settings file, a variable) keeps no DAG from being made: the
    one that trains says so on its page, and its first task refuses it by name.

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
        ConfigError: an argument that can't be: a name, a cron expression, a word of `train`.
    """
    site = Site(Catalogue(catalogue), _beside(Path(sys._getframe(1).f_code.co_filename), config))
    plan = make_plan(site, schedule, train or {})
    site = replace(site, problem=plan.problem)
    register(site)
    _rollback(site, plan)
    return _retrain(site, plan)


def _beside(dag_file: Path, config: str | Path) -> str:
    """Return `config` with its paths made absolute, as seen from the folder of the DAG file."""
    parts = [part for part in str(config).split(os.pathsep) if part]
    return os.pathsep.join(str(dag_file.parent / part) for part in parts)


def _retrain(site: Site, plan: Plan) -> DAG:
    with DAG(
        dag_id=site.retrain_id,
        schedule=plan.timetable,
        # There is none in the past to catch up from.
        start_date=None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=20),
        default_args={**RETRY_ARGS, "on_failure_callback": [record_failure, alert_failure]},
        on_failure_callback=alert_timeout,
        params=trigger_params(plan.deployment.config),
        doc_md=triage("retrain", site, plan.training),
        tags=site.tags,
    ) as dag:
        _wire(site, plan)
    return dag


def _wire(site: Site, plan: Plan) -> None:
    """Put the tasks of a night in order."""
    ratings = lineage.table(site.catalogue, "ratings")
    lists = lineage.table(site.catalogue, "recommendations")
    ingest = tasks.ingest.override(inlets=lineage.inputs_of(plan.source), outlets=[ratings])
    train = tasks.train.override(**plan.training.arguments())
    refit = tasks.refit.override(**plan.training.arguments())
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


def _rollback(site: Site, plan: Plan) -> None:
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
        doc_md=triage("rollback", site, plan.training),
        tags=site.tags,
    ):
        tasks.rollback.override(outlets=[site.recommendations])()
