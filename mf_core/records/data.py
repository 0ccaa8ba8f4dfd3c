"""Records of what is loaded, and of what there is to train on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did. Counts are rows of the source unless they say otherwise.

    Of events (`kind`), `rows_duplicate` are counted in one sum with another, and `rows_inserted`
    to `total_ratings` are pairs of a user and an item. `notes` is what people should know beside
    the counts, in words.
    """

    batch_id: int
    source_uri: str
    content_sha256: str
    already_ingested: bool
    rows_read: int
    rows_rejected: int
    rows_duplicate: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    rows_removed: int
    total_ratings: int
    seconds: float
    rows_not_rated: int = 0
    kind: str = "ratings"
    notes: str = ""

    def sentence(self) -> str:
        """Return what was loaded, in one line for people."""
        notes = f"; {self.notes}" if self.notes else ""
        return f"{self._loaded()}{notes}"

    def _loaded(self) -> str:
        has = f"the warehouse has {self.total_ratings:,} ratings"
        repeated, new = "duplicate", "new"
        if self.kind == "events":
            has = f"the warehouse has events of {self.total_ratings:,} pairs of user and item"
            repeated, new = "added to another", "pairs new"
        if self.already_ingested:
            return (
                f"ingest: nothing new, {self.source_uri} is loaded already (batch "
                f"{self.batch_id}); {has}"
            )
        not_rated = f"{self.rows_not_rated:,} not rated, " if self.rows_not_rated else ""
        return (
            f"ingest: {self.rows_read:,} rows of {self.source_uri} read in {self.seconds:.1f} s, "
            f"{self.rows_rejected:,} bad, {not_rated}{self.rows_duplicate:,} {repeated}, "
            f"{self.rows_inserted:,} {new}, {self.rows_updated:,} changed, "
            f"{self.rows_removed:,} removed; {has} (batch {self.batch_id})"
        )


@dataclass(frozen=True)
class QualityReport:
    """The figures that the data checks looked at.

    `volume_change` is relative to the ratings that were last trained on; None: there are none. Of
    events, a rating is the weight of all events of a user and an item.
    """

    n_ratings: int
    n_users: int
    n_items: int
    lowest_rating: float
    highest_rating: float
    mean_rating: float
    volume_change: float | None
    kind: str = "ratings"

    def sentence(self) -> str:
        """Return the figures in one line for people."""
        change = "nothing was trained on before"
        if self.volume_change is not None:
            change = f"{self.volume_change:+.1%} against the last trained data"
        what = f"{self.n_ratings:,} ratings of {self.n_users:,} users on {self.n_items:,} items"
        if self.kind == "events":
            what = (
                f"events of {self.n_users:,} users on {self.n_items:,} items, "
                f"{self.n_ratings:,} pairs with weights"
            )
        return (
            f"check: fit to train on: {what}, from {self.lowest_rating:g} to "
            f"{self.highest_rating:g}, mean {self.mean_rating:.2f}; {change}"
        )
