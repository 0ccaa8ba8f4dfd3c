"""`make bench-scale`: every step of a night beside its floor, from 100,000 to 20 million ratings.

Each step is the pipeline's own function, in a process of its own, so that its peak memory is its
own. Its floor is the least that the same machine needs for the same rows, measured in the same run:
a plain COPY, the product of two matrices. What counts are the ratios: a busy machine slows both.
"""

from benchmarks.night.run import run_night

__all__ = ["run_night"]
