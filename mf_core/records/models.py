"""Records of what is trained: splits, found settings, models, and how far a fit is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self


@dataclass(frozen=True)
class HeadRef:
    """Where the model of one head lies, the sha256 of its manifest, and its iterations."""

    uri: str
    sha256: str
    iterations: int


HeadRefs = dict[str, HeadRef]
"""The heads that a model has, by name: `ranking`, and `rating` where there are ratings."""


def _restored_heads(heads: Mapping[str, HeadRef | Mapping[str, Any]]) -> HeadRefs:
    """Return heads as they were before XCom or JSON, which turn each into a mapping."""
    return {
        name: HeadRef(**head) if isinstance(head, Mapping) else head for name, head in heads.items()
    }


@dataclass(frozen=True)
class StartRef:
    """The evaluated model that a fit starts from: its version, and its heads."""

    model_version: int
    heads: HeadRefs

    def __post_init__(self) -> None:
        # A frozen record refuses a plain assignment.
        object.__setattr__(self, "heads", _restored_heads(self.heads))

    @classmethod
    def restored(cls, value: Self | Mapping[str, Any] | None) -> Self | None:
        """Return `value` as it was before XCom or JSON.

        They turn a nested record into a mapping.
        """
        if isinstance(value, Mapping):
            return cls(**value)
        return value


@dataclass(frozen=True)
class FoundSettings:
    """Settings that a search chose, where nobody has set them, and on what grounds.

    Attributes:
        settings: values by dotted name; empty where nothing is better than the shipped ones.
        source: night (the training searched) or tune (`mf tune`).
        found_at: when, in ISO 8601.
        grounds: the figures that they were chosen by, in words.
        n_ratings, n_users, n_items: the training ratings that were searched on.
        trials: what was tried, each with its figure.
        found_id: number of its row in `mf.found_settings`; None: not on record yet.
    """

    settings: dict[str, Any]
    source: Literal["night", "tune"]
    found_at: str
    grounds: str
    n_ratings: int
    n_users: int
    n_items: int
    trials: list[dict[str, Any]] = field(default_factory=list)
    found_id: int | None = None

    @classmethod
    def restored(cls, value: Self | Mapping[str, Any] | None) -> Self | None:
        """Return `value` as it was before XCom or JSON, which turn it into a mapping."""
        if isinstance(value, Mapping):
            return cls(**value)
        return value

    def sentence(self) -> str:
        """Return when they were found and on what grounds, in one line for people."""
        day = self.found_at[:10]
        by = " by `mf tune`" if self.source == "tune" else ""
        return f"settings found on {day}{by}: {self.grounds}"

    def values(self) -> str:
        """Return the settings in one line, such as `ranking_head.unobserved_scale=0.05`."""
        if not self.settings:
            return "the shipped ones"
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.settings.items())


def _shown(value: Any) -> str:
    """Return a setting's value as a person would type it; a number without its last digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class SplitRef:
    """One run (`model_version`) and the immutable train/test snapshot that it works on.

    `n_users` and `n_items` count those with a rating on either side, `unrated_users` and
    `unrated_items` those that only have attributes.
    """

    model_version: int
    snapshot_id: str
    split_id: str
    uri: str
    sha256: str
    n_train: int
    n_test: int
    n_users: int
    n_items: int
    cold_users: int
    cold_items: int
    cold_test_ratings: int
    news: bool
    """False if the live version was made from this very snapshot with these very settings."""
    unrated_users: int = 0
    unrated_items: int = 0
    start: StartRef | None = None
    """The evaluated model that the evaluated fit starts from; None: a cold start."""
    found: FoundSettings | None = None
    """The found settings that hold, or that a search begins at; None: there are none."""
    search: bool = False
    """Whether the training searches for settings before it fits."""

    def __post_init__(self) -> None:
        # A frozen record refuses a plain assignment.
        object.__setattr__(self, "start", StartRef.restored(self.start))
        object.__setattr__(self, "found", FoundSettings.restored(self.found))

    def sentence(self) -> str:
        """Return what there is to train on, or that nothing is new, in one line for people."""
        if not self.news:
            return (
                f"split: nothing is new since version {self.model_version}: the ratings, the "
                "hidden items, the settings and the code that shape the result are the same"
            )
        begins = f", from version {self.start.model_version}" if self.start else ""
        searches = ", after a search for its settings" if self.search else ""
        return (
            f"split: version {self.model_version} is trained on {self.n_train:,} ratings and "
            f"tested on {self.n_test:,}{begins}{searches} (snapshot {self.snapshot_id})"
        )


@dataclass(frozen=True)
class ModelRef:
    """The heads of one trained model, where they lie, and how the training went.

    `stage` is evaluated or refit. `warm_started_from` is the version whose evaluated model the fit
    really started from; None: a cold start. `peak_bytes` is the most memory that it held: on a GPU
    that of the device, on a CPU that of the trainer's process; None: not known.
    """

    model_version: int
    stage: str
    heads: HeadRefs
    device: str
    fit_seconds: float
    warm_started_from: int | None = None
    peak_bytes: int | None = None
    found: FoundSettings | None = None
    """The found settings that it was fitted with; None: those of the run alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", _restored_heads(self.heads))
        object.__setattr__(self, "found", FoundSettings.restored(self.found))

    def iterations(self) -> dict[str, int]:
        """Return how many iterations each head took."""
        return {name: head.iterations for name, head in self.heads.items()}

    def sentence(self) -> str:
        """Return what was fitted, in one line for people."""
        step = "refit" if self.stage == "refit" else "train"
        fitted = " and ".join(f"{name} ({n} iterations)" for name, n in self.iterations().items())
        return (
            f"{step}: version {self.model_version} is fitted in {self.fit_seconds:.0f} s on "
            f"{self.device}: {fitted}"
        )

    def as_start(self) -> StartRef:
        """Return the model as one that another fit starts from."""
        return StartRef(model_version=self.model_version, heads=self.heads)


@dataclass(frozen=True)
class Progress:
    """How far the fit of one head is.

    `iteration` counts from 1 to at most `iterations`. `unit` is what the solver calls an iteration
    (sweep, epoch, step). `ratings_per_second`, `eta_seconds` and `iteration_seconds` (the mean) are
    of this process's iterations.
    """

    head: str
    unit: str
    iteration: int
    iterations: int
    train_rmse: float
    validation_rmse: float | None
    ratings_per_second: float
    eta_seconds: float
    iteration_seconds: float

    def sentence(self) -> str:
        """Return the figures in one line for people."""
        validation = ""
        if self.validation_rmse is not None:
            validation = f", validation RMSE {self.validation_rmse:.4f}"
        return (
            f"{self.head}: {self.unit} {self.iteration}/{self.iterations}, "
            f"train RMSE {self.train_rmse:.4f}{validation}, "
            f"{self.ratings_per_second:,.0f} ratings/s, ETA {self.eta_seconds:.0f} s"
        )
