"""What workers get of the driver's environment, and where Ray can make its sockets."""

from __future__ import annotations

from typing import Any

import pytest

from finesearch.commands.doctor.machine_checks import check_sockets
from finesearch.commands.run_search import keys_of_workers
from finesearch.errors import InputError
from finesearch.tuning.connection.connect import HUB_KEYS, STORAGE_KEYS, connect, runtime_env
from finesearch.tuning.socket_paths import socket_problem
from paths import ROOT
from plan_examples import made

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-storage",
    "WANDB_API_KEY": "secret-of-a-tracker",
    "FINESEARCH_STUDY": "postgresql://ada:secret-of-a-database@db/studies",
    "RAY_AUTH_TOKEN": "secret-of-ray-itself",
}


def test_workers_on_this_machine_do_not_get_the_drivers_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DS_BUILD_OPS", "0")
    alone = runtime_env(joins=False)["env_vars"]
    assert {name: alone.get(name) for name in SECRETS} == {
        "AWS_SECRET_ACCESS_KEY": "",
        "WANDB_API_KEY": "",
        "FINESEARCH_STUDY": "",
        "RAY_AUTH_TOKEN": None,
    }
    assert alone["DS_BUILD_OPS"] == "0"
    assert "AWS_SECRET_ACCESS_KEY" not in runtime_env(joins=False, needed_keys=STORAGE_KEYS)["env_vars"]
    # A cluster's workers have the environment of their own nodes.
    assert not SECRETS.keys() & runtime_env(joins=True)["env_vars"].keys()


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"task__model": "package://a/b", "storage": "runs"}, ()),
        ({"task__model": "package://a/b", "storage": "s3://bucket/runs"}, STORAGE_KEYS),
        ({"task__model": "an-owner/a-model", "storage": "runs"}, HUB_KEYS),
        ({"task__model": str(ROOT / "platform"), "storage": "gs://bucket/runs"}, STORAGE_KEYS),
    ],
)
def test_workers_keep_the_keys_that_storage_and_hub_need(changes: dict[str, Any], needed: tuple[str, ...]) -> None:
    assert keys_of_workers(made(**changes)) == needed


def test_a_folder_too_long_for_sockets_is_refused_and_told_by_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    fits, too_long = "/tmp/" + 34 * "x", "/tmp/" + 35 * "x"
    assert socket_problem({"TMPDIR": fits}) is None
    assert socket_problem({"TMPDIR": too_long, "RAY_TMPDIR": "/tmp"}) is None
    assert check_sockets({"TMPDIR": too_long}).state == "bad"
    assert check_sockets({"TMPDIR": fits}).state == "ok"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", too_long)
    with pytest.raises(InputError, match=r"has a path of 40 bytes, expected at most 39 bytes.* Set RAY_TMPDIR"):
        connect()
