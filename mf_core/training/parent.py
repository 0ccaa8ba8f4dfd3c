"""A process that ends with its parent, however that one ends."""

import ctypes
import os
import signal
import threading
import time

from mf_core.errors import TrainingError

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.5


def die_with_parent(parent_pid: int) -> None:
    """Have this process killed when its parent ends, and let SIGTERM end it at once.

    Linux does so by itself. Elsewhere a thread looks twice a second whether the parent is there.

    Raises:
        TrainingError: the parent has ended already.
    """
    # The default action: a Python handler would wait for a long TensorFlow call to return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not _kernel_will_kill():
        threading.Thread(target=_watch, args=[parent_pid], name="mf-parent", daemon=True).start()
    if os.getppid() != parent_pid:
        raise TrainingError(
            f"the process {parent_pid} that asked for this training has ended; "
            "start the step again."
        )


def _kernel_will_kill() -> bool:
    """Ask the kernel to kill this process with its parent; say whether it knows how to."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def _watch(parent_pid: int) -> None:
    """Kill this process once it has another parent: an orphan is given to one."""
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
