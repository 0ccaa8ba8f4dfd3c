"""Which peers run with which settings.

MovieLens 100K: the best of a search on a validation part of u1's training rows, per peer; for myfm the settings of its authors'
own MovieLens example. Synthetic sets: rank 32 as ours, the rest from a search on the set at hand.
"""

from dataclasses import dataclass, field
from typing import Any

PREDICTED_IN_HALVES, PREDICTED_IN_FULL = [0.5, 5.0], [1.0, 5.0]


@dataclass(frozen=True)
class PeerRun:
    """One line of a table, or of a picture.

    Attributes:
        label: what people read.
        environment: key of `ENVIRONMENTS`; the runner is `peers/run_<environment>.py`.
        settings: the runner's.
        iterations: one fit for each, in a process of its own, where the peer can't be watched while it fits.
        seeded: whether the peer's library takes a seed.
    """

    label: str
    environment: str
    settings: dict[str, Any]
    iterations: tuple[int, ...]
    seeded: bool = field(default=True)


# A burn-in of five sweeps and 495 samples.
_MYFM = {"rank": 10, "seconds": 1e9}
_SPARK = {"cores": 2, "memory": "6g"}

ML100K = {
    "myfm-svdpp-both": PeerRun(
        "myfm, SVD++ features on both sides", "myfm", _MYFM | {"features": "svdpp_both"}, (500,)
    ),
    "myfm-svdpp": PeerRun(
        "myfm, SVD++ features of the users", "myfm", _MYFM | {"features": "svdpp"}, (500,)
    ),
    "myfm": PeerRun("myfm, plain", "myfm", _MYFM | {"features": "plain"}, (500,)),
    "cornac": PeerRun(
        "Cornac MF", "cornac", {"k": 200, "learning_rate": 0.01, "lambda_reg": 0.08}, (45,)
    ),
    "cmfrec": PeerRun(
        "cmfrec CMF, implicit features",
        "cmfrec",
        {
            "k": 40,
            "lambda_": 15.0,
            "add_implicit_features": True,
            "w_implicit": 0.5,
            "use_cg": False,
        },
        (30,),
    ),
    "cmfrec-plain": PeerRun(
        "cmfrec CMF",
        "cmfrec",
        {"k": 100, "lambda_": 0.12, "scale_lam": True, "use_cg": False},
        (10,),
    ),
    "libmf": PeerRun(
        "LIBMF",
        "libmf",
        {"k": 100, "lambda": 0.09, "eta": 0.05, "center": False},
        (20,),
        seeded=False,
    ),
    "surprise": PeerRun(
        "Surprise SVD", "surprise", {"n_factors": 200, "lr_all": 0.005, "reg_all": 0.1}, (100,)
    ),
    "spark": PeerRun("Spark ALS, rank 10", "spark", _SPARK | {"rank": 10, "regParam": 0.12}, (20,)),
    "spark-20": PeerRun(
        "Spark ALS, rank 20", "spark", _SPARK | {"rank": 20, "regParam": 0.12}, (20,)
    ),
}

_LIBMF_CURVE = (2, 4, 8, 10, 12, 14, 16, 20, 26)


def _libmf(ridge: float) -> PeerRun:
    settings = {"k": 32, "lambda": ridge, "eta": 0.1, "center": False}
    return PeerRun(f"LIBMF, lambda {ridge:g}", "libmf", settings, _LIBMF_CURVE, seeded=False)


def _cmfrec(ridge: float) -> PeerRun:
    return PeerRun(
        f"cmfrec, lambda {ridge:g}",
        "cmfrec",
        {"k": 32, "lambda_": ridge, "scale_lam": True},
        (4, 6, 8, 10, 14),
    )


def _spark(ridge: float) -> PeerRun:
    return PeerRun(
        f"Spark ALS, reg {ridge:g}", "spark", _SPARK | {"rank": 32, "regParam": ridge}, (5, 10)
    )


_MYFM_CURVE = [
    6,
    7,
    8,
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    72,
    80,
    90,
    100,
    120,
    140,
    160,
    180,
    200,
]
SCALE = {
    "10m": {
        "libmf-0.04": _libmf(0.04),
        "libmf-0.05": _libmf(0.05),
        "libmf-0.06": _libmf(0.06),
        "cmfrec": _cmfrec(0.08),
        "surprise": PeerRun(
            "Surprise SVD", "surprise", {"n_factors": 32, "lr_all": 0.01, "reg_all": 0.05}, (30,)
        ),
        "spark": _spark(0.1),
        "myfm": PeerRun(
            "myfm, plain",
            "myfm",
            {"rank": 32, "features": "plain", "seconds": 600.0, "points": _MYFM_CURVE},
            (1_000,),
        ),
    },
    "20m": {
        "libmf-0.04": _libmf(0.04),
        "libmf-0.05": _libmf(0.05),
        "libmf-0.06": _libmf(0.06),
        "cmfrec": _cmfrec(0.06),
        "spark": _spark(0.08),
    },
}
# For trying everything out: seconds, not minutes.
SCALE["200k"] = {
    "libmf-0.05": _libmf(0.05),
    "cmfrec": _cmfrec(0.08),
    "surprise": SCALE["10m"]["surprise"],
    "spark": _spark(0.1),
    "myfm": PeerRun(
        "myfm, plain",
        "myfm",
        {"rank": 32, "features": "plain", "seconds": 20.0, "points": _MYFM_CURVE},
        (1_000,),
    ),
}
