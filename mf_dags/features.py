"""What differs between the versions of Airflow that are supported, 3.1 and later, in one place.

The rest of the package imports from here what moved or came between two of them.
"""

from importlib.util import find_spec

# What an author writes can't say whether an expression is one; what the scheduler makes of it can.
from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables.trigger import CronTriggerTimetable as CoreCronTriggerTimetable

try:
    # From 3.2 on, all of it is part of the task SDK.
    from airflow.sdk import CronTriggerTimetable
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowTaskTimeout,
    )

    BACKOFF: float = 2.0
except ImportError:
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowTaskTimeout,
    )

    CronTriggerTimetable = CoreCronTriggerTimetable

    # Twice as long each time, too; there is no other factor.
    BACKOFF = True

HAS_RETRY_POLICIES = find_spec("airflow.sdk.definitions.retry_policy") is not None
"""From 3.3 on, a task's policy decides by its exception whether it is tried again."""

__all__ = [
    "BACKOFF",
    "HAS_RETRY_POLICIES",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowTaskTimeout",
    "AirflowTimetableInvalid",
    "CoreCronTriggerTimetable",
    "CronTriggerTimetable",
    "conf",
]
