"""What each step's time grows with: to compare shapes, and to look beyond what was measured."""

from collections.abc import Callable, Mapping

Counts = Mapping[str, float]
# Least squares solve a system for each row, which takes as long as so many ratings.
_RATINGS_OF_A_ROW = 64
# Reading a rating, and leaving it out or judging it, takes as long as so many scores.
_SCORES_OF_A_RATING = 20


def _ratings(counts: Counts) -> float:
    return counts["ratings"]


def _delta(counts: Counts) -> float:
    return counts["delta"]


def _sweeps(counts: Counts) -> float:
    return counts["ratings"] + _RATINGS_OF_A_ROW * (counts["users"] + counts["items"])


def _scores(counts: Counts) -> float:
    return counts["users"] * counts["items"] + _SCORES_OF_A_RATING * counts["ratings"]


def _pairs_of_items(counts: Counts) -> float:
    return counts["items"] ** 2


def _rows(counts: Counts) -> float:
    return counts["users"]


# By step: what its time grows with, and what that is called.
WORK: dict[str, tuple[Callable[[Counts], float], str]] = {
    "ingest, first load": (_ratings, "ratings"),
    "ingest, 1% delta": (_delta, "changed ratings"),
    "check": (_ratings, "ratings"),
    "split": (_ratings, "ratings"),
    "train": (_sweeps, "ratings and rows"),
    "evaluate": (_scores, "users x items, and ratings"),
    "refit": (_sweeps, "ratings and rows"),
    "prepare": (_pairs_of_items, "items x items"),
    "recommend": (_scores, "users x items, and ratings"),
    "verify": (_rows, "rows of lists"),
}


def seconds_at(step: str, seconds: float, measured: Counts, counts: Counts) -> float:
    """Return how long a step would take of `counts`, by the `seconds` that it took of others."""
    work, _ = WORK[step]
    return seconds * work(counts) / work(measured)
