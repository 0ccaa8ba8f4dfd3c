"""What passes from step to step: small frozen records of primitives.

They cross Airflow's XCom, so they stay flat; arrays, data frames and models never travel this way.
"""

from mf_core.records.data import IngestReport, QualityReport
from mf_core.records.models import (
    FoundSettings,
    HeadRef,
    HeadRefs,
    ModelRef,
    Progress,
    SplitRef,
    StartRef,
)
from mf_core.records.results import EvalReport, PublishReport, RollbackReport, Verdict

__all__ = [
    "EvalReport",
    "FoundSettings",
    "HeadRef",
    "HeadRefs",
    "IngestReport",
    "ModelRef",
    "Progress",
    "PublishReport",
    "QualityReport",
    "RollbackReport",
    "SplitRef",
    "StartRef",
    "Verdict",
]
