"""The steps of a night in order, what each is held against, and how far it may be from that."""

from dataclasses import dataclass
from typing import Any

_GIB_IN_MB = (1 << 30) / 1e6
# What a step may take beside its target whatever the size: connections, and first calls of
# libraries. Of small sets nothing else is seen.
FIXED_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: as it stands in the results.
        floor: what its floor is, in words; empty where it has none.
        most_ratio: the target, as a multiple of the floor.
        most_seconds: the target in seconds; beyond those of the floor where `over_floor`.
        over_floor: see there.
        most_mb: the most memory that it may hold, in MB.
        of_night: whether it is a step of a night, and not of the first one alone.
    """

    name: str
    floor: str = ""
    most_ratio: float | None = None
    most_seconds: float | None = None
    over_floor: bool = False
    most_mb: float | None = None
    of_night: bool = True

    def target(self) -> str:
        """Return the targets in words."""
        parts = []
        if self.most_ratio is not None:
            parts.append(f"{self.most_ratio:g}x")
        if self.most_seconds is not None:
            over = "floor + " if self.over_floor else ""
            parts.append(f"{over}{self.most_seconds:g} s")
        if self.most_mb is not None:
            parts.append(f"{self.most_mb:,.0f} MB")
        return ", ".join(parts)

    def missed(self, measured: dict[str, Any]) -> list[str]:
        """Return which targets `measured` misses; its fixed seconds do not count."""
        seconds = measured["seconds"] - FIXED_SECONDS
        floor = measured.get("floor_seconds")
        missed = []
        if self.most_ratio is not None and floor and seconds > self.most_ratio * floor:
            missed.append("ratio")
        if self.most_seconds is not None:
            limit = self.most_seconds + (floor or 0.0 if self.over_floor else 0.0)
            if seconds > limit:
                missed.append("seconds")
        if self.most_mb is not None and measured["peak_mb"] > self.most_mb:
            missed.append("memory")
        return missed


STEPS = (
    Step(
        "ingest, first load",
        "COPY of the file into an empty table, then its key",
        most_ratio=2.5,
        most_mb=_GIB_IN_MB,
        of_night=False,
    ),
    Step(
        "ingest, same file",
        "hashing the file",
        most_seconds=5.0,
        over_floor=True,
        most_mb=_GIB_IN_MB,
        of_night=False,
    ),
    Step(
        "ingest, 1% delta",
        "COPY of the delta into an empty table, then its key",
        most_seconds=20.0,
        most_mb=_GIB_IN_MB,
    ),
    Step("check", "one scan of the ratings"),
    Step("split", "COPY of the ratings to nowhere", most_ratio=2.0, most_mb=2 * _GIB_IN_MB),
    Step("train"),
    Step("evaluate", "the lists of all users (top-N)", most_ratio=2.0),
    Step("gate"),
    Step("refit"),
    Step("prepare"),
    Step(
        "recommend",
        "float32 GEMM of the same shape, and COPY of the rows",
        most_ratio=2.0,
    ),
    Step("verify", "the same indexes on the same rows"),
    Step("publish"),
    Step("top-N alone", "float32 GEMM of the same shape", most_ratio=2.0, of_night=False),
)
BY_NAME = {step.name: step for step in STEPS}
