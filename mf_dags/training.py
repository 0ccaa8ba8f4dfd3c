"""Where `train` and `refit` run: said to the factory, or by the environment.

Nothing said: where every other task runs. So a fleet of workers that all listen to one queue has
nobody wait for another one, and no pool has to be made first. Two trainings on one machine wait for
each other by a lock of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mf_core.catalogue import Catalogue
from mf_core.errors import ConfigError
from mf_dags.pods import pod_override


@dataclass(frozen=True)
class Training:
    """What Airflow is told of the tasks that train; None: what it takes by itself.

    Attributes:
        queue: the queue of Celery's workers.
        pool: the pool whose slots they take. Airflow leaves a task whose pool does not exist
            waiting without a word; the console names the pool.
        executor: one of several configured executors.
        executor_config: for the executor; for that of Kubernetes a `pod_override`.
    """

    queue: str | None = None
    pool: str | None = None
    executor: str | None = None
    executor_config: Mapping[str, Any] | None = None

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> "Training":
        """Return what the factory was told. Raises ConfigError for a name that is none."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(said) - set(known)):
            raise ConfigError(
                f"train: expected {', '.join(known)}, got {', '.join(unknown)}. "
                "See docs/howto/existing-airflow.md."
            )
        return cls(**said)

    def arguments(self) -> dict[str, Any]:
        """Return what is said, as arguments of a task."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value}

    def sentence(self) -> str:
        """Return where training runs, in words."""
        said = [f"{name} {value}" for name, value in self.arguments().items() if name in _NAMED]
        if self.executor_config:
            said.append("with an executor_config of its own, such as its pod on Kubernetes")
        return ", ".join(said) or "wherever other tasks run"


_NAMED = ("queue", "pool", "executor")
_VARIABLES = {"queue": "MF_TRAIN_QUEUE", "pool": "MF_TRAIN_POOL", "executor": "MF_TRAIN_EXECUTOR"}
_POD = "MF_TRAIN_POD"


def find_training(
    said: Mapping[str, Any], environ: Mapping[str, str], catalogue: Catalogue
) -> Training:
    """Return where training runs: what is `said`, and for the rest what the environment says.

    The environment may say it of one catalogue (MF_TRAIN_QUEUE_FILMS), and of all (MF_TRAIN_QUEUE).

    Raises:
        ConfigError: `said` has a name that is none, or the file of MF_TRAIN_POD is wrong.
    """

    def found(variable: str) -> str | None:
        return environ.get(catalogue.variable(variable)) or environ.get(variable) or None

    values: dict[str, Any] = {name: found(variable) for name, variable in _VARIABLES.items()}
    if "executor_config" not in said and (file := found(_POD)):
        values["executor_config"] = {"pod_override": pod_override(file)}
    return Training.told({**values, **said})
