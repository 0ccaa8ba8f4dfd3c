"""A version's heads, out of the artifact store and in the rows of one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mf_core.config import Config
from mf_core.data.ratings import IdMap, Int32s, Ratings
from mf_core.data.snapshot import Snapshot
from mf_core.errors import ArtifactError
from mf_core.models.factors import FactorModel, load_model
from mf_core.models.lists import ListMaker, list_maker
from mf_core.models.samples import PosteriorSamples, load_samples
from mf_core.records import ModelRef, StartRef


@dataclass(frozen=True)
class Models:
    """The heads as they were fitted, in rows of their own; without ratings there is no `rating`."""

    rating: FactorModel | None
    ranking: FactorModel

    def by_head(self) -> dict[str, FactorModel]:
        """Return the heads that there are, by name."""
        both = {"rating": self.rating, "ranking": self.ranking}
        return {name: model for name, model in both.items() if model is not None}


@dataclass(frozen=True)
class Heads:
    """The heads in the rows of one snapshot.

    Attributes:
        rating: predicts ratings; None where there are none.
        lists: makes the lists.
        samples: kept samples of the rating head; None where its solver keeps none, or nobody asks
            how sure it is.
    """

    rating: FactorModel | None
    lists: ListMaker
    samples: PosteriorSamples | None = None


def load_models(model: ModelRef | StartRef) -> Models:
    """Return the heads from the artifact store. Raises ArtifactError or ArtifactStoreError."""
    loaded = {name: load_model(head.uri, head.sha256) for name, head in model.heads.items()}
    return Models(rating=loaded.get("rating"), ranking=loaded["ranking"])


def load_kept_samples(model: ModelRef, snapshot: Snapshot) -> PosteriorSamples | None:
    """Return the rating head's kept samples; their rows are those of its training snapshot.

    Raises:
        ArtifactError: that was another snapshot than this one, or the artifact is damaged.
    """
    rating = model.heads.get("rating")
    samples = load_samples(rating.uri, rating.sha256) if rating else None
    if rating is None or samples is None:
        return None
    n_users = samples.user.shape[1]
    n_items = samples.item.shape[1]
    if (n_users, n_items) != (len(snapshot.users), len(snapshot.items)):
        raise ArtifactError(
            f"the samples in {rating.uri} are of {n_users:,} users and {n_items:,} items, "
            f"expected {len(snapshot.users):,} and {len(snapshot.items):,}: they belong to another "
            "snapshot. Train this version again."
        )
    return samples


def make_heads(
    config: Config,
    snapshot: Snapshot,
    models: Models,
    known: Ratings,
    *,
    hidden_ids: Sequence[str] = (),
    samples: PosteriorSamples | None = None,
) -> Heads:
    """Bring the heads into the snapshot's rows.

    Args:
        config: says which head orders the lists.
        snapshot: whose rows to use.
        models: the fitted heads; their ids may differ from the snapshot's.
        known: ratings that the lists may know of: the training side for a judge, both for readers.
        hidden_ids: items that no list may hold.
        samples: kept samples, in the snapshot's rows.
    """
    rating = align(models.rating, snapshot.users, snapshot.items) if models.rating else None
    ranking = align(models.ranking, snapshot.users, snapshot.items)
    _, rated_items = snapshot.rated()
    hidden = snapshot.items.rows(hidden_ids)
    lists = list_maker(
        config,
        rating,
        ranking,
        known,
        rated_items=rated_items,
        hidden=hidden[hidden >= 0],
    )
    return Heads(rating, lists, samples)


def align(model: FactorModel, users: IdMap, items: IdMap) -> FactorModel:
    """Return `model` in other rows; an id that it does not know gets zero bias and zero factors."""
    user = model.users.rows(users.ids)
    item = model.items.rows(items.ids)
    return FactorModel(
        mean=model.mean,
        user_bias=_taken(model.user_bias, user),
        item_bias=_taken(model.item_bias, item),
        user_factors=_taken(model.user_factors, user),
        item_factors=_taken(model.item_factors, item),
        users=users,
        items=items,
    )


def _taken(array: np.ndarray, rows: Int32s) -> np.ndarray:
    taken = array[rows]
    taken[rows < 0] = 0
    return taken
