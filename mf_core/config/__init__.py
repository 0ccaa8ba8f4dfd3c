"""All settings, defined once: bounds, defaults, descriptions, and what each of them shapes.

The trigger form's Params (`dags/`), the CLI's `--set section.name=value`, the file named by
`MF_CONFIG` and the table in `docs/config.md` are all generated from these models. Names are dotted
paths such as `rating_head.als.n_factors`.
"""

from mf_core.config.described import Setting, bounds
from mf_core.config.field import Section, Shapes, setting
from mf_core.config.found import pinned, with_found
from mf_core.config.heads import RankingHeadConfig, RatingHeadConfig
from mf_core.config.lists import PublishConfig, RecommendConfig
from mf_core.config.reading import (
    DEPLOYMENT_SECTIONS,
    load_config,
    make_config,
    read_settings_file,
    validated,
)
from mf_core.config.sections import (
    DataConfig,
    GateConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
)
from mf_core.config.solvers import (
    AlsConfig,
    BayesConfig,
    BiasesConfig,
    FactorsConfig,
    GradientConfig,
    SearchRange,
    SolverConfig,
)
from mf_core.config.source import REACHING, SOURCE_URIS, Kind, SourceConfig, uris_in
from mf_core.config.whole import Config, Head, settings

__all__ = [
    "DEPLOYMENT_SECTIONS",
    "REACHING",
    "SOURCE_URIS",
    "AlsConfig",
    "BayesConfig",
    "BiasesConfig",
    "Config",
    "DataConfig",
    "FactorsConfig",
    "GateConfig",
    "GradientConfig",
    "Head",
    "Kind",
    "PublishConfig",
    "RankingHeadConfig",
    "RatingHeadConfig",
    "RecommendConfig",
    "RunConfig",
    "SearchRange",
    "Section",
    "Setting",
    "Shapes",
    "SolverConfig",
    "SourceConfig",
    "SplitConfig",
    "TrainConfig",
    "bounds",
    "load_config",
    "make_config",
    "pinned",
    "read_settings_file",
    "setting",
    "settings",
    "uris_in",
    "validated",
    "with_found",
]
