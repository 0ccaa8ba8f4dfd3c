"""What people are told of a batch beside its counts: what to look at, and what to do."""

from mf_core.config import Config
from mf_core.intake.batches import Batch
from mf_core.sources.chunks import Chunk
from mf_core.sources.problems import Cause

_FILES_NAMED = 3


class Reading:
    """What is noticed while the chunks of a source go by.

    `early` are the files with rows that lie in the future yet.
    """

    def __init__(self) -> None:
        self._undated: dict[str, bool] = {}
        self._notes: dict[str, str] = {}
        self.early: set[str] = set()

    def add(self, name: str, chunk: Chunk) -> None:
        """Look at a chunk of the file `name`."""
        rated_us = chunk.rows.column("rated_us")
        no_dates = rated_us.null_count == len(rated_us)
        self._undated[name] = self._undated.get(name, True) and no_dates
        for note in chunk.notes:
            self._notes.setdefault(note, name)
        if any(row.cause is Cause.FUTURE for row in chunk.rejected):
            self.early.add(name)

    def notes(self, config: Config) -> list[str]:
        """Return what people should know, in words."""
        found = [f"{name}: {note}" for note, name in self._notes.items()]
        undated = [name for name, no_dates in self._undated.items() if no_dates]
        # Whoever empties the setting wants no dates.
        column = config.source.time_column
        are_ratings = config.data.kind == "ratings"
        if undated and column:
            found.append(
                f"no dates in {_listing(undated)} (source.time_column={column})"
                + (": of repeated ratings the later line wins" if are_ratings else "")
            )
        return found


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:_FILES_NAMED])
    more = len(names) - _FILES_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def advice(batch: Batch, config: Config) -> str:
    """Return what to do about the bad rows of a batch, by their most frequent reason."""
    [(cause, n_rows)] = batch.causes.most_common(1)
    what = cause.value
    if cause is Cause.SCALE and batch.seen:
        what = _scale_advice(batch.seen, config)
    if len(batch.causes) == 1:
        return f"{what}."
    return f"For the most frequent kind of reason ({n_rows:,} rows): {what}."


def _scale_advice(seen: tuple[float, float], config: Config) -> str:
    """Return what to do about ratings outside the scale, when ratings of this range were seen."""
    low, high = seen
    advice = f"Ratings from {low:g} to {high:g} were seen: check data.scale_low and data.scale_high"
    is_below_only = low < config.data.scale_low and high <= config.data.scale_high
    if is_below_only and config.source.not_rated is None:
        advice += f"; if {low:g} means that nothing was rated, set source.not_rated={low:g}"
    return advice
