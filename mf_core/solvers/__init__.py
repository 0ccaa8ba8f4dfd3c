"""The solvers: the only place that imports TensorFlow. The way in is `mf_core.solvers.fit`.

This file imports nothing heavy. It holds what must be in the environment before TensorFlow is first
imported, since importing any module of the package runs it first.
"""

import logging
import os

from mf_core.extras import TRAIN

TRAIN.require()

# Errors reach us as exceptions; what TensorFlow logs by itself (CPU features, CUDA libraries that
# are absent) is noise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Its warnings count traces by line of code, so fits of several ranks in one process (`mf tune`)
# look like retracing.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# Memory growth is also set in `runtime`; this one covers whatever touches the GPU earlier.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
