"""What Linux does by itself, done otherwise where there is no Linux: here by force."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from mf_core.data import owner
from mf_core.data.store import store_path, sweep_temporaries, temporary_beside
from mf_core.deployment import TriggerRules
from mf_core.errors import ConfigError, InputError
from mf_core.sources import opening
from mf_core.sources.reach import Permit

# A trainer that computes and never looks at a signal, and its parent.
_TRAINER = """
    import os, sys
    from mf_core.training import parent
    parent._kernel_will_kill = lambda: False
    parent.die_with_parent(int(sys.argv[1]))
    print(os.getpid(), flush=True)
    import numpy as np
    a = np.ones((300, 300))
    while True:
        a = a @ a / 300
"""
_LAUNCHER = """
    import os, subprocess, sys
    subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_trainer_ends_with_its_parent_without_the_kernel_s_help(number: signal.Signals) -> None:
    code = textwrap.dedent(_TRAINER)
    command = [sys.executable, "-c", textwrap.dedent(_LAUNCHER), code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        trainer = psutil.Process(int(launcher.stdout.readline()))
        assert trainer.is_running()
        launcher.send_signal(number)
        launcher.wait(20)
    deadline = time.monotonic() + 20
    while trainer.is_running() and trainer.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the trainer runs on"
        time.sleep(0.05)


def test_a_trainer_whose_parent_is_gone_already_does_not_begin() -> None:
    code = textwrap.dedent(_TRAINER)
    done = subprocess.run(
        [sys.executable, "-c", code, str(os.getpid() + 1)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that has no /proc."""
    monkeypatch.setattr(opening, "_DESCRIPTORS", tmp_path / "no" / "proc")


@pytest.mark.usefixtures("without_proc")
def test_files_are_judged_by_where_they_lie(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.csv").write_text("secret")
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    (root / "inner.csv").symlink_to(root / "ratings.csv")
    (root / "ratings.csv").write_text("ratings")
    permit = Permit("source.uri", TriggerRules(roots=(str(root),)))

    for name in ("ratings.csv", "inner.csv"):
        with opening.opened(root / name, permit) as path:
            assert path.read_text() == "ratings"
            assert path.read_text() == "ratings"
    files, folders = opening.names_in(root, permit)
    assert sorted(files) == ["inner.csv", "link.csv", "ratings.csv"]
    assert folders == []
    with pytest.raises(ConfigError), opening.opened(root / "link.csv", permit):
        pass
    with pytest.raises(ConfigError):
        opening.names_in(tmp_path, permit)


@pytest.mark.usefixtures("without_proc")
def test_a_file_that_takes_another_s_place_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("ratings")
    other = tmp_path / "other.csv"
    other.write_text("others")
    with (
        pytest.raises(InputError, match="changed while it was read"),
        opening.opened(file, Permit("source.uri")),
    ):
        os.replace(other, file)


def test_who_has_no_name_leaves_what_goes_by_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "_machine", lambda: None)
    with temporary_beside(store_path(str(tmp_path / "a"))) as temporary:
        assert temporary.name.count(".") == 2
        file = Path(temporary.path)
        file.touch()
        sweep_temporaries(store_path(str(tmp_path)))
        assert file.exists()
        long_ago = time.time() - 90_000
        os.utime(file, (long_ago, long_ago))
        sweep_temporaries(store_path(str(tmp_path)))
        assert not file.exists()
