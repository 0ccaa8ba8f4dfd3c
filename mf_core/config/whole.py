"""All settings of a run together."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import model_validator

from mf_core.config.described import Setting, leaves
from mf_core.config.field import Section, Shapes
from mf_core.config.heads import RankingHeadConfig, RatingHeadConfig
from mf_core.config.lists import PublishConfig, RecommendConfig
from mf_core.config.sections import (
    DataConfig,
    GateConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
)
from mf_core.config.solvers import SolverConfig
from mf_core.config.source import SOURCE_URIS, SourceConfig
from mf_core.errors import ConfigError
from mf_core.redaction import redacted

Head = Literal["rating", "ranking"]


class Config(Section):
    """Everything a run is set up with."""

    run: RunConfig = RunConfig()
    source: SourceConfig = SourceConfig()
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    rating_head: RatingHeadConfig = RatingHeadConfig()
    ranking_head: RankingHeadConfig = RankingHeadConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    recommend: RecommendConfig = RecommendConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _nothing_asks_for_a_head_that_is_not_there(self) -> Self:
        if "rating" in self.heads():
            return self
        wants_ratings = {
            "recommend.rank_by is rating": self.recommend.rank_by == "rating",
            "rating_head.bayes.side_information is on": self.rating_head.uses_attributes(),
        }
        for said, is_so in wants_ratings.items():
            if is_so:
                raise ValueError(
                    f"{said}, but data.kind is {self.data.kind}: without ratings there is no "
                    "rating head, and the ranking head makes the lists by itself; leave that "
                    "setting as it is shipped, or set data.kind to ratings"
                )
        return self

    @model_validator(mode="after")
    def _warm_start_can_be_honoured(self) -> Self:
        if not self.train.warm_start:
            return self
        if self.split.protocol != "hash":
            raise ValueError(
                f"train.warm_start is on, but split.protocol is {self.split.protocol}, under which "
                "a rating may change sides, so a model to start from may have seen tonight's test "
                "rows; set split.protocol to hash, or turn train.warm_start off"
            )
        if "rating" in self.heads() and not self.rating_head.chosen().takes_start:
            raise ValueError(
                f"train.warm_start is on, but rating_head.solver is {self.rating_head.solver}, "
                "which takes no start; set it to bayes or als, or turn train.warm_start off"
            )
        return self

    @model_validator(mode="after")
    def _cutoff_lies_within_the_lists(self) -> Self:
        kept = self.recommend.top_n + self.recommend.reserve
        if self.gate.cutoff > kept:
            raise ValueError(
                f"gate.cutoff {self.gate.cutoff} is more than the {kept} rows that are kept per "
                "user (recommend.top_n + recommend.reserve); lower it, or keep longer lists"
            )
        return self

    def heads(self) -> tuple[Head, ...]:
        """Return the heads that a model has: without ratings there is none that predicts them.

        All else follows from what a model has (`ModelRef.heads`, `Models`, `Heads`).
        """
        return ("ranking",) if self.data.kind == "events" else ("rating", "ranking")

    def require_head(self, head: Head) -> None:
        """Make sure that a model has `head`. Raises ConfigError."""
        if head not in self.heads():
            raise ConfigError(
                f"there is no {head} head where data.kind is {self.data.kind}; choose "
                f"{' or '.join(self.heads())}."
            )

    def solver_name(self, head: Head) -> str:
        """Return the name of the solver that fits `head`."""
        return self.rating_head.solver if head == "rating" else "lists"

    def solver_settings(self, head: Head) -> SolverConfig:
        """Return the settings of the solver that fits `head`."""
        return self.rating_head.chosen() if head == "rating" else self.ranking_head

    def solver_section(self, head: Head) -> str:
        """Return where these settings stand, such as `rating_head.als`."""
        return f"rating_head.{self.rating_head.solver}" if head == "rating" else "ranking_head"

    def start_must_share(self, head: Head) -> tuple[str, ...]:
        """Return the settings, by dotted name, that a model to start from must have in common."""
        section = self.solver_section(head)
        return tuple(f"{section}.{name}" for name in self.solver_settings(head).start_must_share)

    def shaping(self, *shapes: Shapes) -> dict[str, Any]:
        """Return the settings that shape any of the things named, by dotted name.

        Those of a rating solver that is not chosen shape nothing, nor do those of a head that a
        model has not.
        """
        idle = self._idle_sections()
        return {
            found.name: found.default
            for found in leaves(self)
            if found.shapes in shapes and found.section not in idle
        }

    def _idle_sections(self) -> set[str]:
        """Return the sections of the rating solvers that are not chosen."""
        sections = {
            f"rating_head.{name}"
            for name, value in self.rating_head
            if isinstance(value, SolverConfig)
        }
        if "rating" not in self.heads():
            return sections | {"rating_head"}
        return sections - {self.solver_section("rating")}

    def fingerprint(self, *shapes: Shapes) -> str:
        """sha256 (hex, 64 characters) over the settings that shape any of the things named."""
        text = json.dumps(self.shaping(*shapes), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def for_record(self) -> dict[str, Any]:
        """Return all settings as JSON has them, without the secrets that a URI may hold."""
        record = self.model_dump(mode="json")
        for name in SOURCE_URIS:
            record["source"][name] = redacted(record["source"][name])
        return record

    def training_fingerprint(self) -> str:
        """sha256 (hex) over the settings that change what a run makes of the same ratings."""
        return self.fingerprint("model", "lists")


def settings(config: Config | None = None) -> Iterator[Setting]:
    """Yield every setting of `config` (None: the shipped defaults), in order."""
    yield from leaves(config or Config())
