"""What events count: the weights of their types, for the warehouse and for files alike."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from mf_core.config import DataConfig
from mf_core.config.weights import OTHERS, read_weights
from mf_core.errors import InputError

_SHOWN_TYPES = 5
_PAIR_AND_TYPE = ["user_id", "item_id", "side", "event"]


def weights_of(data: DataConfig) -> dict[str, float]:
    """Return what each type of event counts; events without a type ("") count 1."""
    return {"": 1.0, **read_weights(data.event_weights)}


def without_weight(found: Mapping[str, int], weights: Mapping[str, float]) -> str:
    """Return what is wrong where a type has no weight, as the end of a message; "": nothing.

    Args:
        found: how often each type is there, most often first.
        weights: what each counts.
    """
    unknown = [event for event in found if event not in weights]
    if not unknown or OTHERS in weights:
        return ""
    shown = ", ".join(f"{event!r} ({found[event]:,})" for event in unknown[:_SHOWN_TYPES])
    more = f" and {len(unknown) - _SHOWN_TYPES:,} more" if unknown[_SHOWN_TYPES:] else ""
    return (
        "expected a weight in data.event_weights for every type of event, but there is none for "
        f"{shown}{more}. Set one, or `*=0` to leave out all that are not named."
    )


def weighed(rows: pa.Table, data: DataConfig) -> pa.Table:
    """Return events with what they count as `rating`, one row for each pair, type and side.

    Args:
        rows: as in `Chunk.rows`; `rating` is how many events a row stands for.
        data: weights and cap.

    Returns:
        A table with the columns user_id, item_id, side, rating and rated_us. What counts nothing
        is not in it.

    Raises:
        InputError: a type has no weight.
    """
    added = rows.group_by(_PAIR_AND_TYPE).aggregate([("rating", "sum"), ("rated_us", "max")])
    weights = weights_of(data)
    types = pc.value_counts(added["event"]).to_pylist()
    found = {row["values"]: row["counts"] for row in sorted(types, key=lambda row: -row["counts"])}
    if problem := without_weight(found, weights):
        raise InputError(problem)

    amounts = added["rating_sum"]
    if data.event_cap is not None:
        capped = pc.min_element_wise(amounts, data.event_cap)
        amounts = pc.max_element_wise(capped, -data.event_cap)
    names = list(found)
    each = pa.array([weights.get(name, weights.get(OTHERS, 0.0)) for name in names], pa.float64())
    counted = pc.multiply(amounts, each.take(pc.index_in(added["event"], pa.array(names))))
    table = added.select(["user_id", "item_id", "side"])
    table = table.append_column("rating", counted)
    table = table.append_column("rated_us", added["rated_us_max"])
    return table.filter(pc.not_equal(counted, 0.0))
