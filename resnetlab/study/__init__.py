"""The question: a study file read and checked, its settings, factors, hypotheses and random streams."""

from resnetlab.study.data_config import DataConfig
from resnetlab.study.sections.confirm import ConfirmSettings
from resnetlab.study.sections.resources import Resources
from resnetlab.study.sections.search import SearchSettings
from resnetlab.study.study import Study, build_study, differences, load_study
from resnetlab.study.trial_config import TrialConfig

__all__ = [
    "ConfirmSettings",
    "DataConfig",
    "Resources",
    "SearchSettings",
    "Study",
    "TrialConfig",
    "build_study",
    "differences",
    "load_study",
]
