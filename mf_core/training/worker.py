"""The service that helps with trainings: worker 1, 2, ... of a cluster (`mf train-worker`).

It imports no TensorFlow: the work is done by a process of its own, as that of worker 0 is.
"""

import dataclasses
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from typing import NoReturn

from mf_core.errors import MFError, WorkerLostError
from mf_core.training.cluster import Cluster, Line, Log, wait_for_work
from mf_core.training.launcher import run_process
from mf_core.training.manifest import Manifest, Problem

# Worker 0 should hear first of the worker that is gone, and not of those that miss it.
_PAUSE_OF_THE_OTHERS = 5.0


def serve(cluster: Cluster, log: Log = print) -> NoReturn:
    """Help with each training of `cluster`, until a signal ends this process."""
    host, port = cluster.meeting()
    while True:
        log(
            f"worker {cluster.index} of {len(cluster.addresses)}: waiting for work at {host}:{port}"
        )
        line, work = wait_for_work(cluster)
        problem = _help(cluster, line, Manifest.from_json(work), log)
        # It may have gone already: then nobody asks.
        with suppress(OSError):
            line.send(problem and dataclasses.asdict(problem))
        line.close()


def _help(cluster: Cluster, line: Line, manifest: Manifest, log: Log) -> Problem | None:
    """Take part in a training, and return what went wrong; None: nothing."""
    version = f"version {manifest.model_version}, {manifest.stage}"
    log(f"worker {cluster.index}: helping with {version}")
    own = dataclasses.replace(manifest, parent_pid=os.getpid())
    watch = _Watch(line)
    try:
        run_process(own, log, worker=cluster.index, started=watch.begin)
    except MFError as error:
        if watch.is_over:
            log(f"worker {cluster.index}: worker 0 has ended the training of {version}")
            return None
        log(f"worker {cluster.index}: {error}")
        if isinstance(error, WorkerLostError):
            time.sleep(_PAUSE_OF_THE_OTHERS)
        return Problem(type(error).__name__, str(error))
    log(f"worker {cluster.index}: done with {version}")
    return None


class _Watch:
    """Ends the trainer once worker 0 is gone: what it computes is no use to anybody then."""

    def __init__(self, line: Line) -> None:
        self.is_over = False
        self._line = line

    def begin(self, process: "subprocess.Popen[str]") -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, args=[process], name="mf-line", daemon=True).start()

    def _watch(self, process: "subprocess.Popen[str]") -> None:
        with suppress(OSError):
            self._line.socket.recv(1, socket.MSG_PEEK)
        if process.poll() is None:
            self.is_over = True
            process.kill()
