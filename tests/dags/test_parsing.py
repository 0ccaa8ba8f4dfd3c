"""The DAG files parse, cheaply, and say what they must."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "dags"
FACTORY = ROOT / "mf_dags"
PARSED = [*sorted(DAGS.glob("*.py")), *sorted(FACTORY.glob("*.py"))]
HEAVY = ("tensorflow", "keras", "pandas", "numpy", "pyarrow", "mf_core.pipeline")
DAG_IDS = {"mf_retrain", "mf_rollback", "example_downstream"}

_PROBE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import airflow.sdk
from airflow.sdk import CronTriggerTimetable, ExceptionRetryPolicy, Param, dag, task
from airflow.sdk import get_current_context
import structlog
before = set(sys.modules)
start = time.process_time()
for name in sys.argv[2:]:
    __import__(name)
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""


def _task_functions(path: Path) -> list[ast.FunctionDef]:
    functions = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    ]
    return [
        function
        for function in functions
        if any("task" in ast.unparse(mark) for mark in function.decorator_list)
    ]


def test_every_dag_file_imports_without_errors(dagbag: Any) -> None:
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == DAG_IDS


def test_dags_survive_serialization(dagbag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == dag.dag_id


def test_parsing_is_quick_and_loads_nothing_heavy() -> None:
    names = [path.stem for path in DAGS.glob("*.py")]
    command = [sys.executable, "-c", _PROBE, str(DAGS), *names]
    probe = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    seen = json.loads(probe.stdout.splitlines()[-1])
    assert "mf_retrain" in seen["modules"]
    assert not [module for module in seen["modules"] if module in HEAVY]
    assert seen["seconds"] < 1.0


@pytest.mark.parametrize("path", PARSED, ids=lambda path: path.name)
def test_no_dag_file_imports_heavy_modules_at_its_top(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += (
            [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        assert not [name for name in names if name.startswith(HEAVY)]


@pytest.mark.parametrize(
    "path",
    [FACTORY / "tasks.py", DAGS / "example_downstream.py"],
    ids=lambda path: path.name,
)
def test_task_bodies_have_eight_lines_or_fewer(path: Path) -> None:
    functions = _task_functions(path)
    assert functions
    for function in functions:
        without_docstring = function.body[1:]
        lines = ast.unparse(ast.Module(without_docstring, [])).splitlines()
        assert len([line for line in lines if line.strip()]) <= 8, function.name


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_every_dag_explains_itself_with_triage_notes(dagbag: Any, dag_id: str) -> None:
    dag = dagbag.dags[dag_id]
    assert "## Triage" in dag.doc_md
    assert "$" not in dag.doc_md


def test_the_triage_table_names_tasks_that_exist(retrain: Any) -> None:
    rows = [line.split("|")[1] for line in retrain.doc_md.splitlines() if line.startswith("| `")]
    named = {word for row in rows for word in row.split("`") if word.strip(" ,")}
    assert {"train", "gate", "publish"} <= named <= set(retrain.task_ids)
