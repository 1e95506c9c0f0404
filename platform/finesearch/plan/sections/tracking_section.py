"""The ``tracking`` section of a plan: TensorBoard, MLflow, Weights & Biases; all off unless given."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from finesearch.plan.problems import Problem, problem_error
from finesearch.plan.sections.section import Section

_Text = Annotated[str, Field(min_length=1)]


class MlflowPlan(Section):
    """An MLflow server."""

    tracking_uri: Annotated[_Text, Field(description="The server, such as http://host:5000.")]
    experiment: Annotated[_Text | None, Field(description="Experiment; default: the name of the search.")] = None

    @field_validator("tracking_uri")
    @classmethod
    def _tells_no_secret(cls, uri: str) -> str:
        if "@" in urlsplit(uri).netloc:
            host = uri.rpartition("@")[2]
            text = "tracking.mlflow.tracking_uri: expected a URI without user and password, got one with them"
            advice = (
                f"Plans are copied into runs and reports: write {urlsplit(uri).scheme}://{host} and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment."
            )
            raise problem_error(Problem(("tracking_uri",), text, advice))
        return uri


class WandbPlan(Section):
    """A project of Weights & Biases; who writes there is told by WANDB_API_KEY or ``wandb login``."""

    project: Annotated[_Text, Field(description="Project that trials are written to.")]
    entity: Annotated[_Text | None, Field(description="User or team; default: that of the key.")] = None


class TrackingPlan(Section):
    """Where trials are shown besides the report."""

    tensorboard: Annotated[
        bool, Field(description="Writes event files below tensorboard/ in the run folder, a folder a trial.")
    ] = False
    mlflow: Annotated[MlflowPlan | None, Field(description="Each trial is a run on an MLflow server.")] = None
    wandb: Annotated[WandbPlan | None, Field(description="Each trial is a run of Weights & Biases.")] = None

    @property
    def is_enabled(self) -> bool:
        """Whether any tracker is on."""
        return self.tensorboard or self.mlflow is not None or self.wandb is not None
