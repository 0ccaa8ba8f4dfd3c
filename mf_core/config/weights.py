"""What the types of events count: read from text or a table, written in one form."""

from collections.abc import Mapping
from typing import Any

OTHERS = "*"
"""Stands for the types of events that are not named."""

_LARGEST = 1e6
_EXAMPLE = "`purchase=1, view=.2, dislike=-1` (`*` stands for all other types)"


def read_weights(text: str) -> dict[str, float]:
    """Return the weights that a text such as `purchase=1, view=.2` gives, by type of event.

    Raises:
        ValueError: it is no such text; the message names the setting.
    """
    weights: dict[str, float] = {}
    parts = text.split(",") if text.strip() else []
    for part in parts:
        # A type may hold an equals sign; a number has none.
        name, _, number = part.rpartition("=")
        name = name.strip()
        if not name or name in weights:
            raise _refusal("each type once", part)
        weights[name] = _number(number, part)
    return weights


def written(weights: Mapping[str, float]) -> str:
    """Return weights as the text that `read_weights` reads, in the order of their names."""
    return ", ".join(f"{name}={weights[name]:.15g}" for name in sorted(weights))


def canonical(value: Any) -> Any:
    """Return a text or a table of weights as the one text that equal weights have.

    Whatever is neither stays as it is. Raises ValueError, as `read_weights` does.
    """
    if isinstance(value, Mapping):
        if any("," in name for name in value):
            raise _refusal("types without a comma", ", ".join(value))
        value = ", ".join(f"{name}={number}" for name, number in value.items())
    return written(read_weights(value)) if isinstance(value, str) else value


def _number(text: str, part: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _refusal("a number behind each type", part) from None
    # NaN is not within any bounds.
    if not abs(value) <= _LARGEST:
        raise _refusal(f"numbers from {-_LARGEST:,.0f} to {_LARGEST:,.0f}", part)
    return value


def _refusal(expected: str, got: str) -> ValueError:
    return ValueError(
        f"data.event_weights: expected {expected}, as in {_EXAMPLE}, got {got.strip()!r:.80}"
    )
