"""Two steps alone, at full size: top-N lists of random factors, and publishing while readers read.

What they measure, and how, is said by `benchmarks.topn` and `benchmarks.publishing`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.results import table

# As many factors as a model for ratings has as shipped, both heads and the popular list together.
_SHIPPED_WIDTH = 642
TOP_N: tuple[dict[str, int], ...] = (
    {"n_users": 20_000, "n_items": 20_000, "rank": 32, "n": 100},
    {"n_users": 20_000, "n_items": 20_000, "rank": _SHIPPED_WIDTH, "n": 20},
)
PUBLISHING = {"n_users": 138_000, "n_places": 100}

_LEAST_OF_FLOOR = 0.5
_LEAST_OF_PEER = 2.0
_MOST_OF_COPY = 1.3
_MOST_PROMOTION_MS = 50.0
_MOST_READ_MS = 1.0
# A percentile of a few seconds on a shared machine; readers' waits would be far above it.
_MOST_OF_IDLE_P99 = 2.0


def top_n_table(measured: list[Mapping[str, Any]]) -> str:
    """Return the table of lists beside the products alone and the best simple peer."""
    heads = ["users", "items", "factors", "N", "ours, users/s", "floor", "of it", "peer", "of it"]
    return table([*heads, "target", "held"], [_top_n_row(figures) for figures in measured])


def _top_n_row(figures: Mapping[str, Any]) -> list[str]:
    of_floor, of_peer = figures["ours_to_floor"], figures["ours_to_peer"]
    held = of_floor >= _LEAST_OF_FLOOR and of_peer >= _LEAST_OF_PEER
    return [
        *(f"{figures[name]:,}" for name in ("n_users", "n_items", "rank", "n")),
        f"{figures['ours_users_per_second']:,.0f}",
        f"{figures['floor_users_per_second']:,.0f}",
        f"{of_floor:.2f}",
        f"{figures['peer_users_per_second']:,.0f}",
        f"{of_peer:.2f}",
        f"{_LEAST_OF_FLOOR:g} and {_LEAST_OF_PEER:g}",
        "yes" if held else "MISSED",
    ]


def publishing_table(figures: Mapping[str, Any]) -> str:
    """Return the table of publishing beside COPY, and of readers meanwhile."""
    return table(["what", "measured", "target", "held"], _publishing_rows(figures))


def _publishing_rows(figures: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = f"{figures['rows']:,} rows"
    yield [f"{rows}, COPY and indexes (floor)", f"{figures['floor_s']:.1f} s", "", ""]
    load = f"{figures['load_and_index_s']:.1f} s, {figures['ratio']:.2f}x"
    held = _held(figures["ratio"], _MOST_OF_COPY)
    yield [f"{rows}, load and indexes", load, f"{_MOST_OF_COPY:g}x", held]
    yield ["verification besides", f"{figures['checks_s']:.1f} s", "", ""]
    promotion = figures["promotion_ms"]
    held = _held(promotion, _MOST_PROMOTION_MS)
    yield ["promotion while 50 read", f"{promotion:.1f} ms", f"{_MOST_PROMOTION_MS:g} ms", held]
    held = _held(figures["read_ms"], _MOST_READ_MS)
    yield ["one user's list", f"{figures['read_ms']:.2f} ms", f"{_MOST_READ_MS:g} ms", held]
    p99 = figures["reader_p99_ms"]
    for when, milliseconds in p99.items():
        limit = _MOST_OF_IDLE_P99 * p99["idle"]
        is_idle = when == "idle"
        target, held = ("", "") if is_idle else (f"{limit:.1f} ms", _held(milliseconds, limit))
        yield [f"readers' p99, {when}", f"{milliseconds:.1f} ms", target, held]


def _held(value: float, limit: float) -> str:
    return "yes" if value <= limit else "MISSED"
