"""Test ratings of users and items that training knows nothing of."""

from mf_core.data.snapshot import Snapshot


def unknown_rows(snapshot: Snapshot) -> dict[str, int]:
    """Return how many test ratings are of a user, an item, or either, without a training one."""
    user, item = snapshot.cold_test()
    return {
        "n_test_unknown_user": int(user.sum()),
        "n_test_unknown_item": int(item.sum()),
        "n_test_unknown": int((user | item).sum()),
    }


def said_of_unknown(snapshot: Snapshot) -> str:
    """Return the counts of `unknown_rows` in words, with advice if most rows are such."""
    of_user, of_item, either = unknown_rows(snapshot).values()
    said = (
        f"{either:,} of the test ratings have no training rating of their user ({of_user:,}) "
        f"or item ({of_item:,})"
    )
    if 2 * either <= len(snapshot.test):
        return said
    return f"warning: {said}; do both files write ids alike, spaces and leading zeros included?"
