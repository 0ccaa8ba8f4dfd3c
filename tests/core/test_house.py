"""The rules of the house, read off the sources: who imports whom, and one door to each table."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mf_core"
SOURCES = sorted(PACKAGE.rglob("*.py"))

ORDER = (
    "redaction",
    "errors",
    "extras",
    "catalogue",
    "ages",
    "scratch",
    "machine",
    "config",
    "deployment",
    "records",
    "figures",
    "provenance",
    "warehouse",
    "data",
    "sources",
    "intake",
    "models",
    "solvers",
    "judging",
    "training",
    "publishing",
    "capacity",
    "backtest",
    "tune",
    "backup",
    "pipeline",
    "cli",
)
"""Files and packages of mf_core; each imports only those before it, and itself."""

DOORS = {
    "models": "warehouse/versions.py",
    "live": "warehouse/versions.py",
    "promotions": "warehouse/versions.py",
    "evaluations": "warehouse/verdicts.py",
    "gate_decisions": "warehouse/verdicts.py",
    "found_settings": "warehouse/found.py",
    "snapshots": "warehouse/lineage.py",
    "model_artifacts": "warehouse/lineage.py",
    "runs": "warehouse/runs.py",
    "hidden_items": "warehouse/readers.py",
    "ratings": "intake/merge.py",
    "events": "intake/events.py",
    "event_sources": "intake/events.py",
    "items": "intake/metadata.py",
    "users": "intake/metadata.py",
    "ingest_batches": "intake/batches.py",
    "rejected_ratings": "intake/rejects.py",
}
"""The only module that writes each table."""

HEAVY = {"tensorflow", "keras"}
WRITES = r"(?i)\b(?:insert\s+into|update|delete\s+from|truncate)\s+\{+mf\}+\.(\w+)"
CORE_WRITES = r"\b(?:insert|update|delete)\((?:t|tables)\.(\w+)"


def room(path: Path) -> str:
    """Return the entry of ORDER that a source belongs to; "" for mf_core itself."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import of a source, those within functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_the_order_names_every_part_of_the_package() -> None:
    assert {room(path) for path in SOURCES} - {""} == set(ORDER)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_each_part_imports_only_those_before_it(path: Path) -> None:
    wrong = []
    for line, name in imports(path):
        if not name.startswith("mf_core."):
            continue
        imported = name.split(".")[1]
        if imported == "__version__":
            continue
        allowed = ORDER[: ORDER.index(room(path)) + 1] if room(path) else ()
        if imported not in allowed:
            wrong.append(f"{name_of(path)}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_tensorflow_stays_with_the_solvers_and_airflow_outside(path: Path) -> None:
    roots = {name.partition(".")[0] for _, name in imports(path)}
    assert "airflow" not in roots
    assert room(path) == "solvers" or not roots & HEAVY


def writes(path: Path) -> set[str]:
    text = path.read_text()
    found = set(re.findall(WRITES, text)) | set(re.findall(CORE_WRITES, text))
    # `m = t.models` and the like, written to by that name.
    for short, table in re.findall(r"\b([a-z])\s*=\s*t\.(\w+)", text):
        if re.search(rf"\b(?:insert|update|delete)\({short}\)", text):
            found.add(table)
    return found


def test_each_table_is_written_by_one_module() -> None:
    written: dict[str, set[str]] = {}
    for path in SOURCES:
        if "migrations" in path.parts:
            continue
        for table in writes(path) & set(DOORS):
            written.setdefault(table, set()).add(name_of(path))
    assert written == {table: {door} for table, door in DOORS.items() if table in written}
    assert {"models", "live", "promotions", "evaluations", "ratings"} <= set(written)


def statements(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string of a source that is no documentation."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield node.lineno, str(node.value)


def test_no_statement_names_the_schema_of_the_default_catalogue() -> None:
    """`{mf}.ratings`, not `mf.ratings`, which is the default catalogue's whatever the engine."""
    keywords = "from|join|into|update|table|schema|view|function|column|relation|select|on"
    named = re.compile(rf"(?i)(?:\b(?:{keywords})\s+|['\"])mf\.[a-z]|schema mf\b")
    guilty = [
        f"{name_of(path)}:{line} {text.strip():.60}"
        for path in SOURCES
        for line, text in statements(path)
        if named.search(text)
    ]
    for path in PACKAGE.rglob("*.sql"):
        if named.search(re.sub(r"--.*", "", path.read_text())):
            guilty.append(path.name)
    assert guilty == []


def test_states_are_written_by_the_door_only() -> None:
    """No bare state in a statement elsewhere: `versions.move` knows which may follow which."""
    bare = re.compile(r"""\bstate\s*=\s*["']|["']state["']:\s*["']""")
    guilty = [
        name_of(path)
        for path in SOURCES
        if "migrations" not in path.parts
        and room(path) not in ("tune", "intake")
        and name_of(path) != "warehouse/versions.py"
        and bare.search(path.read_text())
    ]
    assert guilty == []


def test_one_module_opens_the_artifact_store() -> None:
    """What its clients raise, and how long they try, is said in one place."""
    opens = re.compile(r"^\s*(?:import|from) fsspec|\bUPath\(", re.MULTILINE)
    guilty = [name_of(path) for path in SOURCES if opens.search(path.read_text())]
    assert guilty == ["data/store.py"]
