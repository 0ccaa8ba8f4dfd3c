"""How TensorFlow runs here: deterministic, in true float32, on a GPU where there is one."""

import resource
import sys
from dataclasses import dataclass
from functools import cache

import tensorflow as tf

from mf_core.errors import TrainingError


@dataclass(frozen=True)
class Device:
    """`name` is TensorFlow's (`/GPU:0`), `label` what people read (`GPU NVIDIA L4`)."""

    name: str
    label: str


def select_device(wanted: str) -> Device:
    """Return the device to train on; `wanted` is auto, gpu or cpu.

    Raises:
        TrainingError: `gpu` is wanted and TensorFlow sees none.
    """
    gpus = _prepare()
    if wanted == "gpu" and not gpus:
        raise TrainingError(
            "train.device is gpu, but TensorFlow sees no GPU. Check the driver (nvidia-smi), the "
            "CUDA libraries (pip install 'mf-retrain[train-gpu]') and CUDA_VISIBLE_DEVICES, or set "
            "train.device to auto or cpu."
        )
    if wanted == "cpu" or not gpus:
        return Device("/CPU:0", "CPU")
    return Device("/GPU:0", f"GPU {gpus[0]}")


def peak_bytes(device: Device) -> int:
    """Return the most memory that was held so far: the GPU's, on a CPU that of this process."""
    if device.name == "/CPU:0":
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(tf.config.experimental.get_memory_info(device.name.strip("/"))["peak"])


@cache
def _prepare() -> tuple[str, ...]:
    """Set TensorFlow up, once per process, and return the models of the GPUs that it sees."""
    tf.config.experimental.enable_op_determinism()
    # TF32 keeps 10 bits of mantissa: too few for normal equations.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return tuple(
        known.get("device_name", gpu.name) for known, gpu in zip(details, gpus, strict=True)
    )
