"""What the pods of `train` and `refit` have beyond those of other tasks, from a file of YAML.

Airflow's Kubernetes executor lays it over its own template, so that the file holds what differs: an
image, a GPU, the nodes that have one. Kubernetes' models drop a name that they don't know without a
word, and a training would wait on a node without a GPU: here such a name is refused.
"""

from pathlib import Path
from typing import Any

from mf_core.errors import ConfigError
from mf_core.extras import KUBERNETES

CONTAINER = "base"
"""What Airflow calls the container of the task."""


def pod_override(path: str) -> Any:
    """Return the pod that a file describes, for `executor_config`.

    Raises:
        ConfigError: the file can't be read, or names what no pod has; or Airflow's provider for
            Kubernetes is not installed.
    """
    where = f"MF_TRAIN_POD={path}"
    described = _read(path, where)
    try:
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ModuleNotFoundError:
        raise KUBERNETES.missing() from None

    try:
        pod = PodGenerator.deserialize_model_dict(described)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where}: this is no pod of Kubernetes: {error}.") from None
    lost = _lost(described, PodGenerator.serialize_pod(pod))
    if lost:
        raise ConfigError(f"{where}: expected the names of a Kubernetes pod, got {lost}.")

    names = [getattr(container, "name", None) for container in pod.spec.containers]
    if names[:1] != [CONTAINER]:
        raise ConfigError(
            f"{where}: expected spec.containers to begin with one of the name {CONTAINER!r}, which "
            f"is the task's, got {names}."
        )
    return pod


def _read(path: str, where: str) -> dict[str, Any]:
    import yaml

    try:
        described = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{where} can't be read ({error}).") from None
    if not isinstance(described, dict) or not isinstance(described.get("spec"), dict):
        raise ConfigError(f"{where}: expected a pod with a `spec`, got {str(described)[:80]!r}.")
    return described


def _lost(described: Any, kept: Any, path: str = "") -> str:
    """Return the first name of `described` that is not in `kept`; "" where there is none."""
    if not isinstance(described, dict | list):
        return ""
    if not isinstance(kept, type(described)):
        return path or "a pod of another shape"
    if isinstance(described, list):
        return _lost_of_list(described, list(kept), path)
    for name, value in described.items():
        place = f"{path}.{name}".lstrip(".")
        if value is None:
            continue
        if name not in kept:
            return place
        if found := _lost(value, kept[name], place):
            return found
    return ""


def _lost_of_list(described: list[Any], kept: list[Any], path: str) -> str:
    if len(described) != len(kept):
        return path
    for index, (value, other) in enumerate(zip(described, kept, strict=True)):
        if found := _lost(value, other, f"{path}[{index}]"):
            return found
    return ""
