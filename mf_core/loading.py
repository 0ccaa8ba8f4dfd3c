"""From references to what they stand for: a version's models and samples out of the artifact store, ready for a step to use."""

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import evaluate as evaluation
from mf_core import recommend, registry
from mf_core.config import Config
from mf_core.errors import ArtifactError
from mf_core.factors import FactorModel, load_model
from mf_core.records import ModelRef, SplitRef
from mf_core.samples import PosteriorSamples, load_samples
from mf_core.snapshot import Snapshot, read_snapshot
from mf_core.warehouse import tables, transaction


def load_heads(model: ModelRef) -> tuple[FactorModel, FactorModel]:
    """Return the rating and the ranking head. Raises ArtifactError."""
    return load_model(model.rating_uri, model.rating_sha256), load_model(
        model.ranking_uri, model.ranking_sha256
    )


def load_kept_samples(model: ModelRef, snapshot: Snapshot) -> PosteriorSamples | None:
    """Return the rating head's kept samples, whose rows are those of the snapshot that it was trained on.

    Raises:
        ArtifactError: that was another one.
    """
    samples = load_samples(model.rating_uri, model.rating_sha256)
    expected = (len(snapshot.users), len(snapshot.items))
    if samples and (samples.user.shape[1], samples.item.shape[1]) != expected:
        raise ArtifactError(
            f"the samples in {model.rating_uri} are of {samples.user.shape[1]:,} users and {samples.item.shape[1]:,} items, "
            f"expected {expected[0]:,} and {expected[1]:,}: they belong to another snapshot. Train this version again."
        )
    return samples


def load_rivals(
    config: Config,
    engine: Engine,
    snapshot: Snapshot,
    split: SplitRef,
    versions: set[int],
    log: Callable[[str], None],
) -> dict[int, evaluation.Rival]:
    """Return the evaluated models of `versions`, to compare with on the test rows that they were not trained on.

    A version whose artifacts are gone or damaged is left out, and the log says so.
    """
    rivals = {}
    for version in versions:
        try:
            rivals[version] = _load_rival(config, engine, snapshot, split, version)
        except ArtifactError as error:
            log(f"version {version} can't be compared with: {error}")
    return rivals


def _load_rival(
    config: Config, engine: Engine, snapshot: Snapshot, split: SplitRef, version: int
) -> evaluation.Rival:
    with transaction(engine) as connection:
        theirs = registry.load_split_ref(connection, version)
        model = registry.load_model_ref(connection, version, "evaluated")
    trained_on = read_snapshot(theirs.uri, theirs.sha256)
    heads = evaluation.make_heads(config, snapshot, *load_heads(model), trained_on)
    if theirs.split_id == split.split_id and config.split.protocol == "hash":
        unseen = (
            snapshot.test.user >= 0
        )  # a pair's side never changes, so none of these rows was a training row
    else:
        unseen = evaluation.unseen_rows(snapshot.test, snapshot.users, snapshot.items, trained_on)
    return evaluation.Rival(version, heads, unseen)


def recommender(
    config: Config,
    engine: Engine,
    snapshot: Snapshot,
    heads: tuple[FactorModel, FactorModel],
    samples: PosteriorSamples | None = None,
) -> recommend.Recommender:
    """Return what lists are made with: the heads, and the items that are hidden at this moment."""
    with transaction(engine) as connection:
        hidden = list(connection.scalars(sa.select(tables.hidden_items.c.item_id)))
    return recommend.make_recommender(config, snapshot, *heads, hidden, samples)
