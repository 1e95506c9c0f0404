"""What is taken for a secret, and what a text says without it; plans with one are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.execution import class_cache

from finesearch.cli import main
from finesearch.errors import PlanError
from finesearch.plan import load_plan
from finesearch.redaction import is_secret_name, redact, secret_in_url
from finesearch.tuning.connection.connect import FORWARDED
from finesearch.tuning.ray_tune.run_tuner import keep_secrets_home
from plans import empty_plan, tiny_plan

CANARY = "canary-7f3a9c"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql+psycopg://ada:{CANARY}@127.0.0.1:5432/studies",
        f"postgresql://ada:un/escaped@{CANARY}@db/studies",
        f"s3://AKIA0:{CANARY}@bucket/runs",
        f"s3://bucket/runs?region=eu&secret_key={CANARY}",
        f"https://account.blob.example/runs?sv=2024&sig={CANARY}",
        f"https://{CANARY}@example.org/runs",
        f"https://bucket.example/run?X-Amz-Signature={CANARY}",
        f"could not open 's3://key:{CANARY}@bucket': no such bucket",
        f"--set tracking.wandb.api_key={CANARY}",
        f"--set 'tracking.password={CANARY} and more'",
        f"host=db user=ada password={CANARY} dbname=studies",
        f"{{'HF_TOKEN': '{CANARY}', 'HF_HOME': '/data'}}",
        f'{{"AWS_SECRET_ACCESS_KEY": "{CANARY}"}}',
        f"Authorization: Bearer {CANARY}",
    ],
)
def test_no_secret_is_left_in_a_text(text: str) -> None:
    said = redact(text, {})
    assert CANARY not in said
    assert "***" in said
    assert redact(said, {}) == said


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/runs?endpoint_override=http://127.0.0.1:9000&scheme=http&region=us-east-1",
        "gs://anonymous@bucket/runs",
        "http://127.0.0.1:8265/#/jobs/a@b",
        "--set training.max_tokens_per_pass=4096 --set task.columns.tokens=words --storage /mnt/shared/runs",
        "plan.yaml, line 9: unknown parameter 'token': expected one of full, lora",
        "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/home/ada/.ray/auth_token",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redact(text, {}) == text
    assert secret_in_url(text) is None


def test_values_of_secret_variables_are_hidden_wherever_they_stand() -> None:
    environment = {
        "HF_TOKEN": "hf_0123456789",
        "FINESEARCH_STUDY": f"postgresql://ada:{CANARY}@db/x",
        "HOME": "/home/ada",
    }
    said = redact(f"401 for hf_0123456789; the server refused {CANARY}; see /home/ada", environment)
    assert said == "401 for ***; the server refused ***; see /home/ada"


def test_no_variable_that_is_handed_to_workers_is_secret() -> None:
    assert not [name for name in FORWARDED if is_secret_name(name)]
    keep_secrets_home()
    assert "RAY_CHDIR_TO_TRIAL_DIR" in class_cache.ENV_VARS_TO_PROPAGATE
    assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if is_secret_name(name)]


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        (f"s3://AKIA0:{CANARY}@bucket/runs", r"got a user with a password \(s3://\*\*\*@bucket/runs\)"),
        (
            f"s3://bucket/runs?secret_key={CANARY}",
            r"got the query parameter 'secret_key' \(s3://bucket/runs\?secret_key=\*\*\*\)",
        ),
    ],
)
def test_a_plan_with_a_secret_is_refused_with_the_way_to_give_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str, said: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{tiny_plan()}storage: {storage}\n")
    with pytest.raises(PlanError, match=rf"tiny.yaml, line \d+: storage: expected no secret, .*{said}") as raised:
        load_plan(path)
    assert "environment of every node before Ray starts: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(
        raised.value
    )
    assert CANARY not in str(raised.value)
    path.write_text(tiny_plan())
    assert main(["search", str(path), "--storage", storage]) == 2
    error = capsys.readouterr().err
    assert "storage: expected no secret" in error
    assert CANARY not in error


def test_a_plan_made_in_python_is_held_to_the_same() -> None:
    with pytest.raises(PlanError, match="storage: expected no secret"):
        empty_plan().model_validate({**dict(empty_plan()), "storage": f"s3://a:{CANARY}@bucket"})


def test_an_error_of_any_command_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"https://ada:{CANARY}@example.org/plan.yaml"]) == 2
    said = capsys.readouterr().err
    assert "no such file" in said
    assert CANARY not in said
