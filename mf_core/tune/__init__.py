"""`mf tune`: choose settings on a validation part of the training rows; test rows never come here.

The search is Optuna's: a tree-structured Parzen estimator proposes (Bergstra et al. 2011), asynchronous successive halving stops
what does badly early (Li et al. 2020). A trial fits on nine tenths of the training rows, iteration by iteration with the
pipeline's own loop and early stopping, and is judged on the other tenth: the rating head by its RMSE, predictions clipped to the
scale; the ranking head by the NDCG of its lists. The tenth is chosen by a hash of the ids.

A study lies in the warehouse (schema `mf_tune`). Run again under its name it goes on, and several processes may work on one.
"""

from mf_core.tune.search import tune
from mf_core.tune.space import Head, search_space
from mf_core.tune.study import TrialReport, TuneReport, show, studies
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
    "Task",
    "TrainingRows",
    "TrialReport",
    "TuneReport",
    "make_task",
    "read_training_file",
    "read_warehouse",
    "search_space",
    "show",
    "studies",
    "training_rows",
    "tune",
]
