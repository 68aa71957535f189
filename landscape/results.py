"""What was found: one frozen record per outcome, saved to and loaded from one sealed file, without torch."""

from landscape.basin_result import BasinResult
from landscape.comparison_result import ComparisonResult, CorrelationResult
from landscape.curvature_result import DensityResult, HessianResult, TraceResult, TrackResult
from landscape.path_result import PathResult
from landscape.record import Result, load, save
from landscape.sharpness_result import VERDICTS, AuditResult, DependenceResult, MeasuresResult, SharpnessResult
from landscape.study_result import StudyCell, StudyResult
from landscape.surface_result import SurfaceResult

__all__ = [
    "VERDICTS", "AuditResult", "BasinResult", "ComparisonResult", "CorrelationResult", "DensityResult",
    "DependenceResult", "HessianResult", "MeasuresResult", "PathResult", "Result", "SharpnessResult", "StudyCell",
    "StudyResult", "SurfaceResult", "TraceResult", "TrackResult", "load", "save",
]  # fmt: skip
