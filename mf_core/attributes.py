"""Attributes of users and items, and the design matrices that they become."""

from dataclasses import dataclass

from mf_core.ratings import Float32s


@dataclass(frozen=True)
class AttributeMatrices:
    """The encoded attributes of both sides, rows in the order of the ratings' row numbers; a side without any has no column.

    Attributes:
        user: float32 array of shape (n_users, F).
        item: float32 array of shape (n_items, F').
    """

    user: Float32s
    item: Float32s
