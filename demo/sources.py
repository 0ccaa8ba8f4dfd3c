"""The sources that a person at this machine names: they are the operator, and may name anything.

The DAG takes settings of a trigger for those of somebody who may only trigger. So a source is
written to a settings file of the stack, and the run is triggered with its name.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from demo.layout import Layout
from demo.settings import write_private

_SECTION = "source."
_NAME = "source.name"
# Anybody may name it.
_DEMO = {"source.uri": "ml-100k"}


def forget_sources(layout: Layout) -> None:
    """Leave no source of an earlier stack."""
    write_private(layout.sources_file, "")


def by_name(layout: Layout, conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings `conf` of a run with its source by name, described for the stack."""
    source = {name: value for name, value in conf.items() if name.startswith(_SECTION)}
    if _NAME in source or not source:
        return dict(conf)
    if source == _DEMO:
        return {**conf, _NAME: ""}

    table = {name.removeprefix(_SECTION): value for name, value in source.items()}
    rest = {name: value for name, value in conf.items() if name not in source}
    return {**rest, _NAME: _describe(layout, table)}


def _describe(layout: Layout, table: Mapping[str, Any]) -> str:
    """Write a source to the stack's settings file, and return its name."""
    # The same name always means the same source: a run that is cleared reads what it read.
    content = json.dumps(table, sort_keys=True)
    name = f"demo-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    known: dict[str, Any] = {}
    if layout.sources_file.exists():
        known = tomllib.loads(layout.sources_file.read_text()).get("sources", {})
    known[name] = table
    tables = [_toml(name, table) for name, table in known.items()]
    write_private(layout.sources_file, "\n".join(tables))
    return name


def _toml(name: str, table: Mapping[str, Any]) -> str:
    """Return a source as a table of TOML, whose texts and numbers look as those of JSON do."""
    lines = [f"[sources.{name}]"]
    for setting, value in table.items():
        lines.append(f"{setting} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
