"""What the YAML parameters may say: one validated model per block, with units and ranges.

All blocks are checked at once before anything runs (``check.py``). An unknown key is refused.
"""

from __future__ import annotations

from dwp_kedro.parameters.base import (
    Grid,
    Parameters,
    Spacing,
)
from dwp_kedro.parameters.cohorts import (
    BratsReader,
    CohortParameters,
    CsvReader,
    DecathlonReader,
    PhantomReader,
    PreprocessingParameters,
    Reader,
    SubjectFoldersReader,
)
from dwp_kedro.parameters.experiment import (
    GridParameters,
    MethodName,
    MethodParameters,
    PriorName,
)
from dwp_kedro.parameters.prediction import (
    InputParameters,
    NewScansParameters,
    PostprocessingParameters,
    PredictionParameters,
    PredictionWindow,
)
from dwp_kedro.parameters.source import (
    ExportPriorParameters,
    PriorLearningParameters,
    SnapshotParameters,
    SourceTrainingParameters,
)
from dwp_kedro.parameters.training import (
    AugmentationParameters,
    ComputeParameters,
    NetworkParameters,
    PatchParameters,
    ScheduleParameters,
    SegmentationTraining,
    TargetTrainingParameters,
    TrainingOverrides,
)

__all__ = [
    "AugmentationParameters",
    "BratsReader",
    "CohortParameters",
    "ComputeParameters",
    "CsvReader",
    "DecathlonReader",
    "ExportPriorParameters",
    "Grid",
    "GridParameters",
    "InputParameters",
    "MethodName",
    "MethodParameters",
    "NetworkParameters",
    "NewScansParameters",
    "Parameters",
    "PatchParameters",
    "PhantomReader",
    "PostprocessingParameters",
    "PredictionParameters",
    "PredictionWindow",
    "PreprocessingParameters",
    "PriorLearningParameters",
    "PriorName",
    "Reader",
    "ScheduleParameters",
    "SegmentationTraining",
    "SnapshotParameters",
    "SourceTrainingParameters",
    "Spacing",
    "SubjectFoldersReader",
    "TargetTrainingParameters",
    "TrainingOverrides",
]
