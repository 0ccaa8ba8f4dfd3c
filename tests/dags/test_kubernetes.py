"""What deploy/ says of Kubernetes, held against its models, Airflow's executor and the factory.

The Helm chart is not to be had from a package registry, so its own names are not checked here.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mf_core.catalogue import DEFAULT
from mf_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy"
POD = FOLDER / "gpu-pod.yaml"
# What a chart's template gives every task.
TEMPLATE = {
    "metadata": {"name": "placeholder", "labels": {"component": "worker"}},
    "spec": {
        "restartPolicy": "Never",
        "serviceAccountName": "mf-retrain",
        "containers": [
            {
                "name": "base",
                "image": "mf-retrain:cpu",
                "env": [{"name": "MF_DATABASE_URL", "value": "postgresql://writer"}],
                "volumeMounts": [{"name": "mf-settings", "mountPath": "/opt/mf/settings"}],
            }
        ],
        "volumes": [{"name": "mf-settings", "configMap": {"name": "mf-retrain"}}],
    },
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    """The values for the chart, parsed."""
    return dict(yaml.safe_load((FOLDER / "helm-values.yaml").read_text()))


def environment(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a part of the values sets, by name."""
    return {entry["name"]: entry.get("value") for entry in part["env"]}


def pod_of(task: Any) -> Any:
    """Return the pod that Airflow's executor would ask for, where the chart names an image."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    pod = PodGenerator.construct_pod(
        dag_id="mf_retrain",
        task_id=task.task_id,
        pod_id="pod",
        try_number=1,
        kube_image="mf-retrain:cpu",
        date=None,
        args=["execute"],
        pod_override_object=PodGenerator.from_obj(task.executor_config),
        base_worker_pod=PodGenerator.deserialize_model_dict(TEMPLATE),
        namespace="airflow",
        scheduler_job_id="1",
        run_id="night",
    )
    return PodGenerator.serialize_pod(pod)


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> Any:
    """The DAG as the values have it; the file of MF_TRAIN_POD is the one of the folder."""
    from airflow.dag_processing.dagbag import DagBag

    said = environment(values)["MF_TRAIN_POD"]
    assert Path(said).name == POD.name
    monkeypatch.setenv("MF_TRAIN_POD", str(POD))
    for name in ("MF_TRAIN_QUEUE", "MF_TRAIN_POOL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "dags.py").write_text(
        "# airflow dag\nfrom mf_dags import retrain_dag\nretrain_dag()"
    )
    bag = DagBag(str(tmp_path), bundle_path=tmp_path, bundle_name="team")
    assert bag.import_errors == {}
    return bag.dags["mf_retrain"]


def test_only_the_pods_that_train_ask_for_a_gpu(dag: Any) -> None:
    for task in dag.tasks:
        spec = pod_of(task)["spec"]
        limits = spec["containers"][0].get("resources", {}).get("limits", {})
        trains = task.task_id in ("train", "refit")
        assert ("nvidia.com/gpu" in limits) == trains, task.task_id
        assert ("nodeSelector" in spec) == trains
        image = spec["containers"][0]["image"]
        assert image.endswith(":gpu" if trains else ":cpu")


def test_a_pod_that_trains_keeps_what_the_template_gives_and_has_no_way_into_the_warehouse(
    dag: Any,
) -> None:
    pod = pod_of(dag.get_task("train"))
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["execute"]
    assert container["volumeMounts"] == TEMPLATE["spec"]["containers"][0]["volumeMounts"]  # type: ignore[index]
    assert pod["spec"]["serviceAccountName"] == "mf-retrain"
    assert pod["metadata"]["labels"]["component"] == "worker"
    found = [
        entry.get("value", "") for entry in container["env"] if entry["name"] == "MF_DATABASE_URL"
    ]
    assert found[-1] == ""


def test_the_pod_survives_the_way_to_the_scheduler(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    sent = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    task = DagSerialization.from_dict(sent).get_task("train")
    assert pod_of(task) == pod_of(dag.get_task("train"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("nodeSelector:", "nodeSelectr:"), r"the names of a Kubernetes pod, got spec.nodeSelectr"),
        (("      resources:", "      resorces:"), r"got spec.containers\[0\].resorces"),
        (("- name: base", "- name: trainer"), r"of the name 'base', which .*, got \['trainer'\]"),
        (("spec:", "specs:"), r"expected a pod with a `spec`"),
        (("containers:", "containers: ["), r"can't be read"),
        (("      image:", "      imag:"), r"got spec.containers\[0\].imag"),
    ],
    ids=lambda value: value[1].strip() if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_pod_that_would_lose_something_without_a_word_is_refused(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    from mf_dags.pods import pod_override

    text = POD.read_text()
    assert change[0] in text
    file = tmp_path / "pod.yaml"
    file.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=said):
        pod_override(str(file))


BASE = {"name": "base"}


@pytest.mark.parametrize(
    "described",
    [
        {"spec": {"containers": [None]}},
        {"spec": {"containers": [{**BASE, "resources": ["x"]}]}},
        {"spec": {"containers": [BASE], "tolerations": {}}},
        {"metadata": [], "spec": {"containers": [BASE]}},
        {"spec": {"containers": "base"}},
        {"spec": {"containers": None}},
        {"spec": {}},
    ],
    ids=str,
)
def test_a_pod_of_another_shape_is_refused_in_words(
    tmp_path: Path, described: dict[str, Any]
) -> None:
    from mf_dags.pods import pod_override

    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(described))
    with pytest.raises(ConfigError, match=f"^MF_TRAIN_POD={file}: "):
        pod_override(str(file))


def test_without_the_provider_the_extra_is_named() -> None:
    program = (
        "import sys\n"
        "from mf_dags.pods import pod_override\n"
        "sys.modules['airflow.providers.cncf.kubernetes.pod_generator'] = None\n"
        f"pod_override({str(POD)!r})\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "ConfigError: MF_TRAIN_POD needs Airflow's provider for Kubernetes" in done.stderr
    assert "pip install 'mf-retrain[kubernetes]'" in done.stderr


def test_a_missing_file_is_named() -> None:
    from mf_dags.training import find_training

    environ = {"MF_TRAIN_POD": "/nowhere/pod.yaml"}
    with pytest.raises(ConfigError, match=r"MF_TRAIN_POD=/nowhere/pod\.yaml can't be read"):
        find_training({}, environ, DEFAULT)


def test_what_the_factory_was_told_wins_over_the_file() -> None:
    from mf_dags.training import find_training

    said = {"executor_config": {"pod_override": "mine"}}
    found = find_training(said, {"MF_TRAIN_POD": "/nowhere/pod.yaml"}, DEFAULT)
    assert found.executor_config == said["executor_config"]


def test_the_values_name_variables_that_are_read(values: dict[str, Any]) -> None:
    files = [*(ROOT / "mf_dags").glob("*.py"), *(ROOT / "mf_core").rglob("*.py")]
    read = set(re.findall(r"\bMF_[A-Z_]+\b", "".join(file.read_text() for file in files)))
    parts = [values, values["workers"], values["dagProcessor"], values["apiServer"]]
    said = {name for part in parts for name in environment(part)}
    assert {"MF_CONFIG", "MF_ARTIFACT_ROOT", "MF_TRAIN_POD", "MF_DATABASE_URL"} <= said
    assert {name for name in said if name.startswith("MF_")} <= read
    assert (
        "mf_core.records.*" in environment(values)["AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"]
    )


def test_each_part_has_the_secrets_that_it_needs_and_no_value_is_one(
    values: dict[str, Any],
) -> None:
    assert "MF_DATABASE_URL" not in environment(values)
    assert "MF_DATABASE_URL" not in environment(values["apiServer"])
    for part in ("workers", "dagProcessor", "apiServer"):
        for entry in values[part]["env"]:
            assert set(entry["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    assert "://" not in (FOLDER / "helm-values.yaml").read_text().replace("s3://bucket/mf", "")


def test_volumes_and_variables_of_the_values_are_what_kubernetes_knows(
    values: dict[str, Any], tmp_path: Path
) -> None:
    from mf_dags.pods import pod_override

    env = [*values["env"], *values["workers"]["env"], *values["apiServer"]["env"]]
    container = {"name": "base", "env": env, "volumeMounts": values["volumeMounts"]}
    container["resources"] = values["workers"]["resources"]
    spec = {"containers": [container], "volumes": values["volumes"]}
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump({"spec": spec}))
    pod_override(str(file))


def test_the_page_makes_every_secret_and_file_that_the_values_name(values: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "howto" / "kubernetes.md").read_text()
    text = (FOLDER / "helm-values.yaml").read_text()
    for secret in set(re.findall(r"SecretName: ([a-z-]+)", text)):
        assert f"create secret generic {secret} " in page
    for name, key in set(re.findall(r"name: (mf-warehouse)\n\s+key: (\w+)", text)):
        assert re.search(rf"create secret generic {name} (.*\\\n)*.*--from-literal={key}=", page)
    mounted = [environment(values)[name] for name in ("MF_CONFIG", "MF_TRAIN_POD")]
    for path in mounted:
        assert f"--from-file={Path(path).name}" in page.replace("deploy/", "")
        assert str(Path(path).parent) == values["volumeMounts"][0]["mountPath"]


def test_the_page_builds_images_with_arguments_that_the_dockerfile_has() -> None:
    page = (ROOT / "docs" / "howto" / "kubernetes.md").read_text()
    taken = set(
        re.findall(r"^ARG (\w+)", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    )
    said = re.findall(r"--build-arg (\w+)=(\S+)", page)
    assert {value for _, value in said} == {"cpu", "gpu"}
    for name, value in said:
        assert name in taken
        assert (ROOT / "docker" / f"requirements-{value}.txt").exists()
