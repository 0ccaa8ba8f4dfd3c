"""What the operator has said of a catalogue's DAGs, as far as it can be read.

A DAG file that can't be imported takes all of its DAGs along, those of other catalogues and the way
back as well, and just when somebody looks for them. So what is wrong with a setting hides no DAG:
the shipped default stands in for it, the page of the DAG begins with what is wrong, and the tasks
of a night refuse it by name, `start` first (ADR 0024).
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from mf_core.catalogue import Catalogue
from mf_core.config import SourceConfig
from mf_core.deployment import Deployment, load_deployment
from mf_core.errors import ConfigError
from mf_core.redaction import without_secrets
from mf_dags.features import AirflowTimetableInvalid, CoreCronTriggerTimetable, CronTriggerTimetable
from mf_dags.sites import Site
from mf_dags.training import Training, find_training

FROM_ENVIRONMENT = "MF_SCHEDULE"
NIGHTLY = "0 2 * * *"

# Words of Airflow that stand for no cron expression.
_NO_CRON = ("@once", "@continuous")

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What the DAGs of a catalogue are made from.

    Attributes:
        deployment: what the settings file says.
        source: what a night reads, where its trigger says nothing else.
        timetable: when nights begin, as Airflow's DAG takes it.
        training: where training runs.
        problem: what is wrong with a setting, so that no night may run; "": nothing.
    """

    deployment: Deployment
    source: SourceConfig
    timetable: Any
    training: Training
    problem: str


def make_plan(site: Site, schedule: Any, train: Mapping[str, Any]) -> Plan:
    """Return what there is to make a catalogue's DAGs from.

    Args:
        site: the catalogue, and where its settings lie.
        schedule: what the factory was told, FROM_ENVIRONMENT for nothing.
        train: what it was told of training.

    Raises:
        ConfigError: an argument of the factory can't be so. What is wrong with a setting is the
            plan's `problem`.
    """
    told = Training.told(train)
    timetable = None if schedule == FROM_ENVIRONMENT else _timetable(schedule, "schedule")
    problems: list[str] = []

    def found(find: Callable[[], T], default: T) -> T:
        """Return what is found, and the default where that is refused."""
        try:
            return find()
        except ConfigError as error:
            problems.append(without_secrets(str(error)))
            return default

    deployment = found(lambda: load_deployment(site.settings_file), Deployment())
    of_file = deployment.config
    source = found(lambda: deployment.with_named_source(of_file).source, of_file.source)
    training = found(lambda: find_training(train, os.environ, site.catalogue), told)
    if schedule == FROM_ENVIRONMENT:
        nightly = _timetable(NIGHTLY, "schedule")
        timetable = found(lambda: _timetable_of_environment(site.catalogue), nightly)
    for problem in problems:
        log.warning("%s runs no night before this is mended: %s", site.retrain_id, problem)
    return Plan(deployment, source, timetable, training, " ".join(problems))


def _timetable_of_environment(catalogue: Catalogue) -> Any:
    variable = catalogue.variable(FROM_ENVIRONMENT)
    return _timetable(os.environ.get(variable) or NIGHTLY, variable)


def _timetable(schedule: Any, name: str) -> Any:
    """Return when nights begin; `name` is what says so. Raises ConfigError."""
    if not isinstance(schedule, str) or schedule in _NO_CRON:
        return schedule
    try:
        CoreCronTriggerTimetable(schedule, timezone="UTC").validate()
    except AirflowTimetableInvalid as error:
        raise ConfigError(
            f"{name}: expected a cron expression such as {NIGHTLY!r}, @daily, or "
            f"{' or '.join(_NO_CRON)}, got {schedule!r:.80} ({error})."
        ) from None
    # Unpausing must start no missed run. `run_immediately` turns off the run that was "just
    # missed", by default within a tenth of the interval.
    return CronTriggerTimetable(schedule, timezone="UTC", run_immediately=timedelta())
