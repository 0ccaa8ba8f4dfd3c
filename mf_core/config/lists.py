"""The sections of what readers get: how lists are made, and how versions go live."""

from typing import Literal

from mf_core.config.field import Section, setting


class RecommendConfig(Section):
    """The lists."""

    top_n: int = setting(
        10, shapes="lists", description="Recommendations per user that readers see.", ge=1, le=1_000
    )
    reserve: int = setting(
        10,
        shapes="lists",
        description="Further rows kept per user, so that hiding items leaves lists full.",
        ge=0,
        le=1_000,
    )
    rank_by: Literal["ranking", "rating"] = setting(
        "ranking",
        shapes="lists",
        description="Which head orders the list; the ranking head finds the similar items either "
        "way.",
    )
    rating_weight: float = setting(
        0.2,
        shapes="lists",
        description="How much predicted ratings count in lists that the ranking head orders, in "
        "standard deviations of a user's predictions and scores; 0: not at all.",
        ge=0,
        le=100,
    )
    shards: int = setting(
        2,
        shapes="nothing",
        description="Tasks that write the recommendations side by side; no more than one a user "
        "are started.",
        ge=1,
        le=256,
    )
    tile_mib: int = setting(
        64,
        shapes="nothing",
        description="Memory bound of the scores that the threads of a task hold together, in MiB; "
        "each holds some of one user at least.",
        ge=1,
        le=65_536,
    )
    similar_items: int = setting(
        10, shapes="lists", description="Similar items kept per item.", ge=0, le=1_000
    )


class PublishConfig(Section):
    """How versions go live."""

    refit: bool = setting(
        True, shapes="lists", description="Refit on all ratings after the gate and publish that."
    )
    keep_versions: int = setting(
        5,
        shapes="nothing",
        description="Published versions kept for rollback, the live one included.",
        ge=1,
        le=100,
    )
    keep_weeks: int = setting(
        4,
        shapes="nothing",
        description="Past weeks (Monday to Sunday, UTC) of which the version that was live at the "
        "end is kept as well.",
        ge=0,
        le=52,
    )
    keep_days: int = setting(
        14,
        shapes="nothing",
        description="Days for which is kept what runs leave that do not go live (models, "
        "checkpoints, snapshots), and rows that an ingest has rejected.",
        ge=2,
        le=3650,
    )
    keep_history_days: int = setting(
        400,
        shapes="nothing",
        description="Days for which a run stays on record (`mf.runs`), and a study of `mf tune` "
        "after its last trial.",
        ge=2,
        le=36_500,
    )
    min_coverage: float = setting(
        0.0,
        shapes="verdict",
        description="Smallest share of the items that the lists must cover.",
        ge=0,
        le=1,
    )
