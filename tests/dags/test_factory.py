"""What one call of the DAG factory makes of a catalogue, once Airflow has read its file."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mf_core.config import make_config
from mf_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FILE = '"""A DAG file of Airflow."""\nfrom mf_dags import retrain_dag\n'


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what Airflow makes of a DAG file that holds `calls`; no variable is set."""
    from airflow.dag_processing.dagbag import DagBag

    for name in ("MF_TRAIN_QUEUE", "MF_TRAIN_POOL", "MF_TRAIN_POD", "MF_CONFIG", "MF_SCHEDULE"):
        monkeypatch.delenv(name, raising=False)

    def _read(calls: str) -> DagBag:
        (tmp_path / "catalogues.py").write_text(FILE + calls)
        return DagBag(str(tmp_path), bundle_path=tmp_path, bundle_name="team")

    return _read


def the_error(bag: Any) -> str:
    """Return what Airflow says of the only file, which can't be imported."""
    (error,) = bag.import_errors.values()
    return str(error)


def test_a_named_catalogue_has_dags_an_asset_and_a_tag_of_its_own(read: Any) -> None:
    dags = read('retrain_dag("films")').dags
    assert set(dags) == {"mf_retrain_films", "mf_rollback_films"}

    for dag in dags.values():
        assert {"matrix-factorization", "mf-catalogue:films"} == set(dag.tags)
        assert Path(dag.fileloc).name == "catalogues.py"
    for dag_id, task_id in (("mf_retrain_films", "publish"), ("mf_rollback_films", "rollback")):
        asset = dags[dag_id].get_task(task_id).outlets[0]
        assert asset.name == "mf_recommendations_films"
        assert asset.uri == "postgres://mf_warehouse_films/warehouse/mf_films/recommendations"


def test_what_a_dag_says_of_itself_has_its_own_names(read: Any) -> None:
    dags = read('retrain_dag("films", train={"queue": "gpu"})\nretrain_dag()').dags
    films, default = dags["mf_retrain_films"].doc_md, dags["mf_retrain"].doc_md
    assert "`mf_films.rejected_ratings`" in films
    assert "trigger `mf_rollback_films`" in films
    assert "Training runs here: queue gpu." in films
    assert "`mf.rejected_ratings`" in default
    assert "Training runs here: wherever other tasks run." in default
    assert "`mf_retrain_films`" in dags["mf_rollback_films"].doc_md
    assert not re.search(r"\bmf\.[a-z]", films.replace("mf.toml", ""))


@pytest.mark.parametrize("page", ["README.md", "docs/howto/existing-airflow.md"])
def test_what_the_pages_show_makes_dags(read: Any, tmp_path: Path, page: str) -> None:
    (tmp_path / "films.toml").write_text("")
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert "airflow" in example.lower(), "without the word Airflow reads no file"
    bag = read(example)
    assert bag.import_errors == {}
    assert bag.dags["mf_retrain_films"].timetable.expression == "30 1 * * *"
    assert bag.dags["mf_retrain_films"].get_task("train").queue == "gpu"


def test_two_catalogues_share_a_file_and_nothing_else(read: Any) -> None:
    calls = 'retrain_dag("films", schedule="30 1 * * *")\nretrain_dag("books", schedule=None)'
    bag = read(calls)
    assert bag.import_errors == {}
    assert len(bag.dags) == 4
    films, books = bag.dags["mf_retrain_films"], bag.dags["mf_retrain_books"]
    assert films.timetable.expression == "30 1 * * *"
    assert films.timetable.run_immediately == timedelta()
    assert books.schedule is None


def test_settings_lie_beside_the_dag_file(read: Any, tmp_path: Path) -> None:
    for name, limit in (("films", 0.81), ("books", 0.92)):
        (tmp_path / f"{name}.toml").write_text(f"[gate]\nmax_rmse = {limit}\n")
    dags = read(
        'retrain_dag("films", config="films.toml")\nretrain_dag("books", config="books.toml")'
    ).dags
    assert dags["mf_retrain_films"].params["gate.max_rmse"] == 0.81
    assert dags["mf_retrain_books"].params["gate.max_rmse"] == 0.92


def test_a_named_catalogue_never_takes_the_settings_of_the_default_one(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, limit in (("MF_CONFIG", 0.81), ("MF_CONFIG_FILMS", 0.92)):
        file = tmp_path / f"{variable}.toml"
        file.write_text(f"[gate]\nmax_rmse = {limit}\n")
        monkeypatch.setenv(variable, str(file))
    monkeypatch.setenv("MF_SCHEDULE_FILMS", "5 5 * * *")
    dags = read('retrain_dag()\nretrain_dag("films")\nretrain_dag("books")').dags
    limits = [dags[name].params["gate.max_rmse"] for name in sorted(dags) if "retrain" in name]
    shipped = dags["mf_retrain_books"].params["gate.max_rmse"]
    assert limits == [0.81, shipped, 0.92]
    assert shipped not in (0.81, 0.92)
    assert dags["mf_retrain_films"].timetable.expression == "5 5 * * *"
    assert dags["mf_retrain_books"].timetable.expression == "0 2 * * *"


def where(dag: Any) -> set[tuple[Any, ...]]:
    """Return queue, pool and executor of the tasks that train."""
    tasks = [dag.get_task(name) for name in ("train", "refit")]
    return {(task.queue, task.pool, task.executor) for task in tasks}


def test_where_nothing_is_said_training_waits_for_no_queue_and_no_pool_of_its_own(
    read: Any,
) -> None:
    dag = read("retrain_dag()").dags["mf_retrain"]
    assert where(dag) == {("default", "default_pool", None)}


def test_where_training_runs_is_an_argument_or_a_variable(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MF_TRAIN_QUEUE", "gpu")
    monkeypatch.setenv("MF_TRAIN_POOL_BOOKS", "books")
    dags = read('retrain_dag("films", train=dict(pool="one"))\nretrain_dag("books")').dags
    assert where(dags["mf_retrain_films"]) == {("gpu", "one", None)}
    assert where(dags["mf_retrain_books"]) == {("gpu", "books", None)}
    others = {task.queue for task in dags["mf_retrain_films"].tasks} - {"gpu"}
    assert others == {"default"}


def test_an_unknown_word_of_train_is_refused_by_name(read: Any) -> None:
    bag = read('retrain_dag(train={"que": "gpu"})')
    assert "train: expected queue, pool, executor, executor_config, got que" in the_error(bag)


def test_a_name_that_can_be_none_is_refused_by_name(read: Any) -> None:
    assert "the catalogue 'Films & more' can't be called so" in the_error(
        read('retrain_dag("Films & more")')
    )


def test_tasks_find_the_settings_and_artifacts_of_their_own_catalogue(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from mf_dags import runtime, sites

    (tmp_path / "films.toml").write_text("[sources.shop]\nuri = 's3://films/r.csv'\n")
    (tmp_path / "books.toml").write_text("[sources.shop]\nuri = 's3://books/r.csv'\n")
    read('retrain_dag("films", config="films.toml")\nretrain_dag("books", config="books.toml")')
    monkeypatch.setenv("MF_ARTIFACT_ROOT", "s3://bucket/mf")
    monkeypatch.setenv("MF_DATABASE_URL", "postgresql+psycopg2://default/warehouse")
    for name in ("films", "books"):
        monkeypatch.setenv(f"MF_DATABASE_URL_{name.upper()}", f"postgresql+psycopg2://{name}/w")
        dag = SimpleNamespace(dag_id=f"mf_retrain_{name}")
        context = {
            "dag": dag,
            "dag_run": SimpleNamespace(triggering_user_name="ann"),
        }
        monkeypatch.setattr(sites, "get_current_context", lambda context=context: context)
        monkeypatch.setattr(runtime, "get_current_context", lambda context=context: context)
        assert runtime.the_deployment().sources["shop"].uri == f"s3://{name}/r.csv"
        assert runtime.artifact_root() == f"s3://bucket/mf/mf_{name}"
        place = runtime.place()
        assert place.catalogue.name == name
        assert place.engine.url.host == name
        assert place.artifact_root == runtime.artifact_root()


# What is wrong: the settings file, variables, and what is said of it.
BROKEN = {
    "no such file": (None, {}, "the settings file {} can't be read"),
    "an unknown name": ("[gate]\nmax_rsme = 1\n", {}, "gate.max_rsme"),
    "no such source": ("[source]\nname = 'shop'\n", {}, "source.name = 'shop'"),
    "no such pod": ("", {"MF_TRAIN_POD": "/nowhere/pod.yaml"}, "MF_TRAIN_POD=/nowhere/pod.yaml"),
    "no cron": ("", {"MF_SCHEDULE_FILMS": "nightly <b>"}, "MF_SCHEDULE_FILMS: expected a cron"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_setting_hides_no_dag_and_start_refuses_it_by_name(
    read: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    from mf_dags import runtime, sites

    text, environ, words = BROKEN[case]
    file = tmp_path / "films.toml"
    if text is not None:
        file.write_text(text)
    said = words.format(file)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    calls = """
retrain_dag("films", config="films.toml", train={"queue": "gpu"})
retrain_dag("books", train={"executor_config": {}})
"""
    bag = read(calls)
    assert bag.import_errors == {}
    ids = {f"mf_{what}_{name}" for what in ("retrain", "rollback") for name in ("films", "books")}
    assert set(bag.dags) == ids

    dag = bag.dags["mf_retrain_films"]
    assert dag.doc_md.startswith("**No night runs before this is mended")
    assert said in dag.doc_md.split("# Nightly retrain")[0]
    assert any(said in record.getMessage() for record in caplog.records)
    assert dag.timetable.expression == "0 2 * * *"
    assert dag.get_task("train").queue == "gpu"
    for dag_id in ids - {"mf_retrain_films"}:
        assert bag.dags[dag_id].doc_md.startswith("# ")

    # Whatever step of a night asks for its settings, `start` first.
    context = {"dag": dag, "params": dag.params.dump()}
    monkeypatch.setattr(sites, "get_current_context", lambda: context)
    monkeypatch.setattr(runtime, "get_current_context", lambda: context)
    with pytest.raises(ConfigError) as refused:
        runtime.run_config()
    assert said in str(refused.value)
    books = bag.dags["mf_retrain_books"]
    context |= {"dag": books, "params": books.params.dump()}
    runtime.run_config()


def test_a_rollback_needs_no_settings_file(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from mf_dags import runtime, sites

    dags = read('retrain_dag("films", config="nowhere.toml")').dags
    run = SimpleNamespace(triggering_user_name="ann")
    context = {"dag": dags["mf_rollback_films"], "dag_run": run}
    monkeypatch.setattr(sites, "get_current_context", lambda: context)
    monkeypatch.setattr(runtime, "get_current_context", lambda: context)
    monkeypatch.setenv("MF_ARTIFACT_ROOT", tmp_path.as_uri())
    monkeypatch.setenv("MF_DATABASE_URL_FILMS", "postgresql+psycopg2://films/w")
    reach = runtime.place().reach
    # And may open nothing that the operator has not named.
    assert reach is not None
    with pytest.raises(ConfigError, match=r"source\.uri"):
        reach.judge(make_config({"source.uri": "/etc/passwd"}))


def test_a_schedule_that_is_no_cron_expression_is_refused_or_passed_on(read: Any) -> None:
    bag = read('retrain_dag("films", schedule="61 2 * * *")')
    assert "schedule: expected a cron expression such as '0 2 * * *'" in the_error(bag)
    assert "got '61 2 * * *'" in the_error(bag)

    for schedule in ("@once", "@continuous"):
        bag = read(f'retrain_dag("films", schedule="{schedule}")')
        assert bag.import_errors == {}
        assert first_night(bag.dags["mf_retrain_films"]) is not None
    bag = read('retrain_dag("films", schedule="@daily")')
    assert bag.dags["mf_retrain_films"].timetable.run_immediately == timedelta()


def first_night(dag: Any) -> Any:
    """Return when the scheduler would begin the first night, once the DAG is unpaused."""
    from airflow.serialization.serialized_objects import DagSerialization

    sent = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    return DagSerialization.from_dict(sent).next_dagrun_info(last_automated_run_info=None)


def test_dags_with_lineage_survive_serialization(read: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in read('retrain_dag("films")').dags.values():
        DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))


@pytest.mark.parametrize(
    ("settings", "inputs"),
    [
        ("", {"https://files.grouplens.org/datasets/movielens/ml-100k.zip"}),
        ('[source]\nuri = "s3://b/r.csv"\nitems_uri = "s3://b/i.csv"',
         {"s3://b/r.csv", "s3://b/i.csv"}),
        ('[source]\nuri = "s3://b/*.csv\\n/data/c"', {"s3://b/*.csv", "file:///data/c"}),
        ('[source]\nuri = "https://me:hush@h/r.csv?sig=hush"', {"https://***@h/r.csv?***"}),
        ('[source]\nuri = "/data/a b.csv"', {"file:///data/a%20b.csv"}),
        ('[source]\nuri = "sql"\nquery = "SELECT 1"\nconnection = "shop"', {"sql://shop"}),
        ('[source]\nname = "x"\n[sources.x]\nuri = "gs://b/x.csv"', {"gs://b/x.csv"}),
    ],
)  # fmt: skip
def test_ingest_names_its_inputs_without_secrets(
    read: Any, tmp_path: Path, settings: str, inputs: set[str]
) -> None:
    (tmp_path / "films.toml").write_text(settings)
    dag = read('retrain_dag("films", config="films.toml")').dags["mf_retrain_films"]
    ingest = dag.get_task("ingest")
    assert {file.url for file in ingest.inlets} == inputs
    (ratings,) = ingest.outlets
    assert (ratings.cluster, ratings.database, ratings.name) == (
        "postgres://mf_warehouse_films:5432",
        "warehouse",
        "mf_films.ratings",
    )
