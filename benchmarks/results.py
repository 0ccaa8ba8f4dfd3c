"""Results as files: who measured what, on which machine, in which run."""

import json
import os
import platform
import secrets
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environments import ENVIRONMENTS, ROOT

RESULTS = Path(__file__).parent / "results"


def this_run() -> dict[str, Any]:
    """Return what identifies a run: id, time, machine, our commit, the peers' versions."""
    started = datetime.now(UTC)
    peers = {
        name: environment.requirements[0]
        for name, environment in ENVIRONMENTS.items()
        if name not in ("plot", "rdata")
    }
    return {
        "run": f"{started:%Y%m%d}-{secrets.token_hex(3)}",
        "started": started.isoformat(timespec="seconds"),
        **where_and_what(),
        "python": platform.python_version(),
        "peers": peers,
    }


def where_and_what() -> dict[str, str]:
    """Return the machine and our commit."""
    return {"machine": machine(), "commit": _commit() or "unknown"}


def _commit() -> str:
    """Return the short hash of the commit; empty without a git repository."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return answer.stdout.strip()


def machine() -> str:
    """Return the processor, the number of cores and the memory."""
    processor = platform.machine()
    memory = 0
    # Linux tells the processor's name; elsewhere its kind has to do.
    info = Path("/proc/cpuinfo")
    if info.exists():
        processor = _model_name(info.read_text()) or processor
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    return f"{processor}, {os.cpu_count()} cores, {memory / 1e9:.0f} GB"


def _model_name(info: str) -> str:
    """Return the first processor's name in the text of /proc/cpuinfo; empty if it has none."""
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name.startswith("model name"):
            return value.strip()
    return ""


def kept(name: str, run: str | None, *, timed: bool = True) -> dict[str, Any]:
    """Return what `results/NAME.json` holds, for a partial rerun to keep; nothing without `run`.

    Figures of different runs are not to be compared: the machine may have been busy. So the run has
    to be named. Where nothing is `timed`, another machine may go on with it.

    Raises:
        SystemExit: the file is of another run or machine.
    """
    if run is None:
        return {}

    path = RESULTS / f"{name}.json"
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    elsewhere = timed and held.get("machine") != machine()
    if held.get("run") != run or elsewhere:
        raise SystemExit(
            f"{path} holds run {held.get('run')} on {held.get('machine')}, "
            f"not run {run} on {machine()}. "
            "Name the run that it holds, or leave out --run and measure everything anew."
        )
    return held


def write(name: str, about: dict[str, Any], text: str) -> None:
    """Write the results NAME, and print the text.

    `about` goes to results/NAME.json and `text` to results/NAME.md.
    """
    RESULTS.mkdir(exist_ok=True)

    data = RESULTS / f"{name}.json"
    data.write_text(json.dumps(about, indent=1) + "\n")
    tables = RESULTS / f"{name}.md"
    tables.write_text(text + "\n")

    print(text)
    print(f"written to {RESULTS / name}.json and .md", flush=True)


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    rule = ["---"] * len(heads)

    lines = []
    for cells in (heads, rule, *rows):
        line = " | ".join(cells)
        lines.append(f"| {line} |")
    return "\n".join(lines)


def without_bars(text: str) -> str:
    """Return `text` as one cell of a table: a bar would end the cell."""
    return text.replace("|", "/")


def heading(about: dict[str, Any]) -> str:
    """Return the line over every table."""
    return f"Run {about['run']}, {about['started']}, commit {about['commit']}; {about['machine']}."
