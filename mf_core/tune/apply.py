"""What a study has found holds from the next night on: it is put on record as found settings."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Engine

from mf_core.config import Config, pinned, with_found
from mf_core.records import FoundSettings
from mf_core.training.found import basis
from mf_core.tune.report import TrialReport, TuneReport
from mf_core.tune.task import TrainingRows
from mf_core.warehouse import found as finds
from mf_core.warehouse import transaction


@dataclass(frozen=True)
class Standing:
    """The settings that a study begins at: those of the nights.

    Attributes:
        config: the settings in force.
        own: the settings of the run alone.
        found: the found ones among those in force; None: there are none.
    """

    config: Config
    own: Config
    found: FoundSettings | None

    @property
    def pinned(self) -> frozenset[str]:
        """Return what a person has set; found settings leave that alone, so it is not searched."""
        return pinned(self.own) if self.own.train.settings == "found" else frozenset()


def standing_of(own: Config, engine: Engine) -> Standing:
    """Return what the nights of these settings would be fitted with.

    Raises:
        ConfigError: settings that were found do not go with these any more.
        DatabaseError: Postgres broke off.
    """
    if own.train.settings == "fixed":
        return Standing(own, own, None)
    with transaction(engine) as connection:
        found = finds.latest(connection, basis(own))
    return Standing(with_found(own, found.settings) if found else own, own, found)


def apply(
    engine: Engine, standing: Standing, rows: TrainingRows, report: TuneReport
) -> FoundSettings | None:
    """Put the winner of a study on record, so that it holds from the next night on.

    Returns None where nothing was better than the settings that the study began with, on parts by
    which no trial was chosen.

    Raises:
        DatabaseError: Postgres broke off.
    """
    winner = better(report)
    if winner is None:
        return None
    before = standing.found.settings if standing.found else {}
    found = FoundSettings(
        settings={**before, **winner.settings},
        source="tune",
        found_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        grounds=_grounds(report, winner),
        n_ratings=len(rows.ratings),
        n_users=len(rows.users),
        n_items=len(rows.items),
        trials=[{"settings": trial.settings, "again": trial.again} for trial in report.compared],
    )
    with transaction(engine) as connection:
        finds.save(connection, found, fingerprint=basis(standing.own))
    return found


def better(report: TuneReport) -> TrialReport | None:
    """Return the trial that won the comparison on other parts; None: no other than the first.

    Its gain has to be above its standard error; with one part none is known, and any gain counts.
    """
    if not report.compared:
        return None
    best = report.compared[0]
    gain, error = report.gain(best)
    least = error if math.isfinite(error) else 0.0
    return best if gain > least else None


def _grounds(report: TuneReport, winner: TrialReport) -> str:
    """Return by which figures the study was decided, in words."""
    gain, error = report.gain(winner)
    [begun] = [trial for trial in report.compared if trial.as_begun]
    mean = sum(winner.again) / len(winner.again)
    mean_before = sum(begun.again) / len(begun.again)
    return (
        f"study {report.study}, on {len(winner.again)} other validation parts, {report.metric} "
        f"{mean:.4f} against {mean_before:.4f} with the settings before (gain {gain:.4f} +- "
        f"{error:.4f})"
    )
