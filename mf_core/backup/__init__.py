"""Backups of the three states together: the warehouse, the artifacts, and Airflow's metadata.

`mf backup` may run beside a night. What makes the copies fit each other is their order:

1. **Airflow's metadata** first. A task that they take for unfinished has perhaps finished by the
   time the warehouse is saved; after a restore it runs again, and every step may be repeated. The
   other way round, Airflow would take for done what the warehouse does not know.
2. **All artifacts.** They are immutable, so what was copied stays good.
3. **The warehouse**, and in the same snapshot the artifacts that its rows name. Those that came in
   since, or were copied while they were written, are copied now, and each one is checked byte by
   byte against its row. So no row names an artifact that the backup lacks.
4. **The manifest**, with the sha256 of every file. A folder without one is no backup.
"""

from mf_core.backup.restoring import restore
from mf_core.backup.saving import save

__all__ = ["restore", "save"]
