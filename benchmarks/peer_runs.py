"""Which peers run with which settings.

MovieLens 100K: the best of a search on a validation part of u1's training rows, per peer; for myfm
the settings of its authors' own MovieLens example. Synthetic sets: rank 32 as ours, the rest from a
search on the set at hand.
"""

from dataclasses import dataclass
from typing import Any

# What predictions are clipped to: the lowest and highest of half-star ratings and of full ones.
PREDICTED_IN_HALVES = [0.5, 5.0]
PREDICTED_IN_FULL = [1.0, 5.0]


@dataclass(frozen=True)
class PeerRun:
    """One line of a table, or of a picture.

    Attributes:
        label: what people read.
        environment: key of `ENVIRONMENTS`; the runner is `peers/run_<environment>.py`.
        settings: the runner's.
        iterations: one fit for each, in a process of its own, where the peer can't be watched while
            it fits.
        seeded: whether the peer's library takes a seed.
    """

    label: str
    environment: str
    settings: dict[str, Any]
    iterations: tuple[int, ...]
    seeded: bool = True


# A burn-in of five sweeps and 495 samples.
_MYFM = {"rank": 10, "seconds": 1e9}
_SPARK = {"cores": 2, "memory": "6g"}

ML100K = {
    "myfm-svdpp-both": PeerRun(
        label="myfm, SVD++ features on both sides",
        environment="myfm",
        settings={**_MYFM, "features": "svdpp_both"},
        iterations=(500,),
    ),
    "myfm-svdpp": PeerRun(
        label="myfm, SVD++ features of the users",
        environment="myfm",
        settings={**_MYFM, "features": "svdpp"},
        iterations=(500,),
    ),
    "myfm": PeerRun(
        label="myfm, plain",
        environment="myfm",
        settings={**_MYFM, "features": "plain"},
        iterations=(500,),
    ),
    "cornac": PeerRun(
        label="Cornac MF",
        environment="cornac",
        settings={"k": 200, "learning_rate": 0.01, "lambda_reg": 0.08},
        iterations=(45,),
    ),
    "cmfrec": PeerRun(
        label="cmfrec CMF, implicit features",
        environment="cmfrec",
        settings={
            "k": 40,
            "lambda_": 15.0,
            "add_implicit_features": True,
            "w_implicit": 0.5,
            "use_cg": False,
        },
        iterations=(30,),
    ),
    "cmfrec-plain": PeerRun(
        label="cmfrec CMF",
        environment="cmfrec",
        settings={"k": 100, "lambda_": 0.12, "scale_lam": True, "use_cg": False},
        iterations=(10,),
    ),
    "libmf": PeerRun(
        label="LIBMF",
        environment="libmf",
        settings={"k": 100, "lambda": 0.09, "eta": 0.05, "center": False},
        iterations=(20,),
        seeded=False,
    ),
    "surprise": PeerRun(
        label="Surprise SVD",
        environment="surprise",
        settings={"n_factors": 200, "lr_all": 0.005, "reg_all": 0.1},
        iterations=(100,),
    ),
    "spark": PeerRun(
        label="Spark ALS, rank 10",
        environment="spark",
        settings={**_SPARK, "rank": 10, "regParam": 0.12},
        iterations=(20,),
    ),
    "spark-20": PeerRun(
        label="Spark ALS, rank 20",
        environment="spark",
        settings={**_SPARK, "rank": 20, "regParam": 0.12},
        iterations=(20,),
    ),
}


def _libmf(ridge: float) -> PeerRun:
    return PeerRun(
        label=f"LIBMF, lambda {ridge:g}",
        environment="libmf",
        settings={"k": 32, "lambda": ridge, "eta": 0.1, "center": False},
        iterations=(2, 4, 8, 10, 12, 14, 16, 20, 26),
        seeded=False,
    )


def _cmfrec(ridge: float) -> PeerRun:
    return PeerRun(
        label=f"cmfrec, lambda {ridge:g}",
        environment="cmfrec",
        settings={"k": 32, "lambda_": ridge, "scale_lam": True},
        iterations=(4, 6, 8, 10, 14),
    )


def _spark(ridge: float) -> PeerRun:
    return PeerRun(
        label=f"Spark ALS, reg {ridge:g}",
        environment="spark",
        settings={**_SPARK, "rank": 32, "regParam": ridge},
        iterations=(5, 10),
    )


def _surprise() -> PeerRun:
    return PeerRun(
        label="Surprise SVD",
        environment="surprise",
        settings={"n_factors": 32, "lr_all": 0.01, "reg_all": 0.05},
        iterations=(30,),
    )


# Every sweep takes as long; the curve is steep at its start.
_MYFM_CURVE = [
    *(6, 7, 8),
    *range(10, 16, 2),
    *range(16, 32, 4),
    *range(32, 80, 8),
    *(80, 90),
    *range(100, 201, 20),
]


def _myfm(seconds: float) -> PeerRun:
    return PeerRun(
        label="myfm, plain",
        environment="myfm",
        settings={"rank": 32, "features": "plain", "seconds": seconds, "points": _MYFM_CURVE},
        iterations=(1_000,),
    )


SCALE = {
    "10m": {
        "libmf-0.04": _libmf(0.04),
        "libmf-0.05": _libmf(0.05),
        "libmf-0.06": _libmf(0.06),
        "cmfrec": _cmfrec(0.08),
        "surprise": _surprise(),
        "spark": _spark(0.1),
        "myfm": _myfm(seconds=600.0),
    },
    "20m": {
        "libmf-0.04": _libmf(0.04),
        "libmf-0.05": _libmf(0.05),
        "libmf-0.06": _libmf(0.06),
        "cmfrec": _cmfrec(0.06),
        "spark": _spark(0.08),
    },
    # For trying everything out: seconds, not minutes.
    "200k": {
        "libmf-0.05": _libmf(0.05),
        "cmfrec": _cmfrec(0.08),
        "surprise": _surprise(),
        "spark": _spark(0.1),
        "myfm": _myfm(seconds=20.0),
    },
}
