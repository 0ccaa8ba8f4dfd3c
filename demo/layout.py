"""Where the embedded stack keeps its state."""

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Layout:
    """The files of one stack.

    Everything under `var` survives between runs, and may be deleted while the stack is down.
    """

    repository: Path
    var: Path

    @property
    def postgres_data(self) -> Path:
        """Postgres' data folder."""
        return self.var / "pgdata"

    @property
    def airflow_home(self) -> Path:
        """Airflow's home; task logs lie in `logs` there."""
        return self.var / "airflow"

    @property
    def task_logs(self) -> Path:
        """Root of the task logs."""
        return self.airflow_home / "logs"

    @property
    def passwords_file(self) -> Path:
        """The login that Airflow's SimpleAuthManager reads."""
        return self.airflow_home / "passwords.json"

    @property
    def artifacts(self) -> Path:
        """Root of snapshots and models."""
        return self.var / "artifacts"

    @property
    def cache(self) -> Path:
        """Downloads."""
        return self.var / "cache"

    @property
    def logs(self) -> Path:
        """Logs of the supervisor and of Airflow's components."""
        return self.var / "log"

    @property
    def secrets_file(self) -> Path:
        """Keys and the users' passwords, generated once."""
        return self.var / "secrets.json"

    @property
    def sources_file(self) -> Path:
        """Settings file of the sources that people at this machine have named."""
        return self.var / "run" / "sources.toml"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of itself."""
        return self.var / "run" / "stack.json"

    @property
    def lock_file(self) -> Path:
        """Held by guard and supervisor as long as either lives."""
        return self.var / "run" / "stack.lock"

    @property
    def report_file(self) -> Path:
        """The last demo's report."""
        return self.var / "demo" / "report.json"

    def make_folders(self) -> None:
        """Create the folders that several processes write to."""
        for folder in (
            self.airflow_home,
            self.artifacts,
            self.cache,
            self.logs,
            self.state_file.parent,
            self.report_file.parent,
        ):
            folder.mkdir(parents=True, exist_ok=True)
