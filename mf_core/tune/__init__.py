"""`mf tune`: choose settings on a validation part of the training rows; test rows never come here.

Optuna does the search. A tree-structured Parzen estimator proposes settings (Bergstra et al. 2011),
and asynchronous successive halving stops early what does badly (Li et al. 2020).

A trial fits on nine tenths of the training rows, iteration by iteration, with the pipeline's own
loop and early stopping. It is judged on the other tenth, which is set aside as the run's own split
makes its test side (`mf_core.data.validation`). The rating head is judged by its RMSE, with
predictions clipped to the scale, the ranking head by the NDCG of its lists. It is the long form of
the search of the nights (`mf_core.training.search`), and what it finds holds for them
(`mf_core.tune.apply`).

A study is stored in the warehouse (schema `mf_tune`). The same name continues it, and several
processes may work on one study.
"""

from mf_core.tune.apply import Standing, apply, standing_of
from mf_core.tune.report import TrialReport, TuneReport, show, studies
from mf_core.tune.search import tune
from mf_core.tune.space import Head, search_space
from mf_core.tune.storage import forget
from mf_core.tune.task import (
    Task,
    TrainingRows,
    make_task,
    read_training_file,
    read_warehouse,
    training_rows,
)

__all__ = [
    "Head",
    "Standing",
    "Task",
    "TrainingRows",
    "TrialReport",
    "TuneReport",
    "apply",
    "forget",
    "make_task",
    "read_training_file",
    "read_warehouse",
    "search_space",
    "show",
    "standing_of",
    "studies",
    "training_rows",
    "tune",
]
