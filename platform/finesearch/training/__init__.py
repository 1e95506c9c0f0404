"""HOW one trial trains: torch, transformers and DeepSpeed; knows no Ray.

Names are resolved when they are first used, so that ``import finesearch.training`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finesearch.training.adaptations import ADAPTATIONS, Adaptation
    from finesearch.training.checkpoint_model import load_checkpoint_model
    from finesearch.training.checkpoint_scoring import CheckpointScorer, evaluate_checkpoint
    from finesearch.training.checkpoints import drop_resume_state
    from finesearch.training.export import export_checkpoint
    from finesearch.training.model_facts import ModelFacts, asking_of, check_asking, check_recipe_space, inspect_model
    from finesearch.training.model_source import resolve_model
    from finesearch.training.row_check import check_rows
    from finesearch.training.trial import Evaluation, PutAside, Scored, TrialResult, TrialSpec
    from finesearch.training.workbench import Workbench

_HOME = {
    "ADAPTATIONS": "adaptations",
    "Adaptation": "adaptations",
    "CheckpointScorer": "checkpoint_scoring",
    "Evaluation": "trial",
    "ModelFacts": "model_facts",
    "PutAside": "trial",
    "Scored": "trial",
    "TrialResult": "trial",
    "TrialSpec": "trial",
    "Workbench": "workbench",
    "asking_of": "model_facts",
    "check_asking": "model_facts",
    "check_recipe_space": "model_facts",
    "check_rows": "row_check",
    "drop_resume_state": "checkpoints",
    "evaluate_checkpoint": "checkpoint_scoring",
    "export_checkpoint": "export",
    "inspect_model": "model_facts",
    "load_checkpoint_model": "checkpoint_model",
    "resolve_model": "model_source",
}
__all__ = [
    "ADAPTATIONS",
    "Adaptation",
    "CheckpointScorer",
    "Evaluation",
    "ModelFacts",
    "PutAside",
    "Scored",
    "TrialResult",
    "TrialSpec",
    "Workbench",
    "asking_of",
    "check_asking",
    "check_recipe_space",
    "check_rows",
    "drop_resume_state",
    "evaluate_checkpoint",
    "export_checkpoint",
    "inspect_model",
    "load_checkpoint_model",
    "resolve_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
