"""How many threads NumPy's matrix products take."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@cache
def blas_threads() -> int:
    """Return how many threads a matrix product takes: what the operator allows, else all cores.

    OMP_NUM_THREADS limits it, and so do the library's own variables.
    """
    counts = [library["num_threads"] for library in _blas().info()]
    return max(counts, default=os.cpu_count() or 1)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have each product take one thread, in all of this process, until the context ends."""
    # Not what was in force before: in a second thread that may be the limit of the first.
    as_started = blas_threads()
    _blas().limit(limits=1)
    try:
        yield
    finally:
        _blas().limit(limits=as_started)
