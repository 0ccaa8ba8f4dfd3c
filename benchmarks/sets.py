"""Sets of ratings as files: drawn once, then read by ours and by the peers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from benchmarks.planted import Draw, Shape, columns_of, draw_ratings
from benchmarks.protocols import PROTOCOLS
from benchmarks.shapes import ALL


def write_set(root: Path, name: str) -> Path:
    """Return the folder of set `name`, drawing and parting it if it is not there as it is defined.

    It holds, as CSV with the columns user_id, item_id, rating and timestamp (seconds since 1970),
    ratings.csv and, per protocol, PROTOCOL.train.csv and PROTOCOL.test.csv; set.json has the shape
    and the settings that name its scale.
    """
    shape = ALL[name]
    folder = root / "shapes" / name
    about = json.dumps(_about(shape), indent=1) + "\n"

    # Written last, so that a half-written set, or one of an older definition, is written again.
    stamp = folder / "set.json"
    if stamp.exists() and stamp.read_text() == about:
        return folder
    stamp.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)

    draw = draw_ratings(shape)
    _write(folder / "ratings.csv", _table(draw))
    for protocol, part in PROTOCOLS.items():
        train, test = part(draw)
        # A set without users of so many ratings has no such protocol.
        if not test.any():
            continue
        _write(folder / f"{protocol}.train.csv", _table(draw).filter(pa.array(train)))
        _write(folder / f"{protocol}.test.csv", _table(draw).filter(pa.array(test)))
    stamp.write_text(about)
    return folder


def settings_of(shape: Shape) -> dict[str, float]:
    """Return the settings that tell the product which scale a set has."""
    scale = shape.scale
    return {
        "data.scale_low": scale.low,
        "data.scale_high": scale.high,
        "data.relevant_from": scale.relevant_from,
    }


def _about(shape: Shape) -> dict[str, Any]:
    return {"settings": settings_of(shape), "shape": asdict(shape), "protocols": list(PROTOCOLS)}


def _table(draw: Draw) -> pa.Table:
    return pa.table(columns_of(draw))


def _write(path: Path, table: pa.Table) -> None:
    csv.write_csv(table, path)
