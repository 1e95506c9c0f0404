import pytest

from finesearch.plan import MlflowPlan, TrackingPlan, WandbPlan, parse_plan
from plan_examples import changed, made, refusal

SERVER = {"tracking_uri": "http://tracker:5000"}


def test_everything_is_off_by_default() -> None:
    assert made().tracking == TrackingPlan(tensorboard=False, mlflow=None, wandb=None)
    assert not made().tracking.is_enabled
    assert not made(tracking={}).tracking.is_enabled


def test_a_plan_with_all_of_it_reads_back() -> None:
    plan = made(tracking={"tensorboard": True, "mlflow": SERVER, "wandb": {"project": "p", "entity": "team"}})
    assert plan.tracking.mlflow == MlflowPlan(tracking_uri="http://tracker:5000")
    assert plan.tracking.wandb == WandbPlan(project="p", entity="team")
    assert plan.tracking.is_enabled
    assert parse_plan(plan.to_yaml()) == plan


def test_it_may_differ_when_a_search_goes_on() -> None:
    assert made(tracking={"tensorboard": True}).differences(made(tracking={"mlflow": SERVER})) == []
    assert made(tracking={"tensorboard": True}).fingerprint == made().fingerprint


@pytest.mark.parametrize(
    ("tracking", "said"),
    [
        ({"tensorbord": True}, "unknown key 'tensorbord' in tracking.\n  Did you mean 'tensorboard'?"),
        ({"tensorboard": "yes"}, "tracking.tensorboard: expected true or false, got 'yes'"),
        ({"mlflow": {}}, "'tracking_uri' is missing in tracking.mlflow: expected"),
        ({"mlflow": True}, "tracking.mlflow: expected a mapping, got true"),
        ({"mlflow": {**SERVER, "experimnt": "a"}}, "Did you mean 'experiment'?"),
        ({"wandb": {}}, "'project' is missing in tracking.wandb"),
    ],
)
def test_mistakes_are_said(tracking: dict[str, object], said: str) -> None:
    assert said in refusal(changed(tracking=tracking))


def test_a_password_is_refused_and_not_repeated() -> None:
    said = refusal(changed(tracking={"mlflow": {"tracking_uri": "https://me:hunter2@tracker:5000/x"}}))
    assert "tracking.mlflow.tracking_uri: expected a URI without user and password" in said
    assert "write https://tracker:5000/x and set MLFLOW_TRACKING_USERNAME" in said
    assert "hunter2" not in said
