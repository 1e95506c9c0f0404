"""``finesearch doctor`` on one machine, without Ray: what it finds, what it advises, and its exit status."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from clusters import free_port
from finesearch.cli import main
from finesearch.commands.doctor.finding import exit_status
from finesearch.commands.doctor.machine_checks import (
    check_devices,
    check_disks,
    check_memory,
    check_versions,
    read_constraints,
)
from finesearch.commands.doctor.node_checks import check_clocks, check_network, check_nodes
from finesearch.commands.doctor.plan_limits import check_waiting, limit_findings
from finesearch.commands.doctor.security_checks import DASHBOARD_PORT, check_dashboard, check_own_dashboard, check_token
from finesearch.commands.doctor.storage_checks import storage_findings, try_storage
from finesearch.plan import load_plan
from finesearch.tuning.cluster.addresses import own_addresses
from finesearch.tuning.cluster.capacity import Capacity, Node
from finesearch.tuning.cluster.machine_facts import MachineFacts, describe_machine
from finesearch.tuning.cluster.node_inspection import ClusterFacts, Link, NodeFacts
from finesearch.tuning.cluster.node_probe import NodeProbe
from finesearch.tuning.connection.ray_token import RayToken, find_token
from object_stores import BUCKET, s3_bucket
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

GIB = 1 << 30
CANARY = "canary-51c2d0"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path, rows=60)
    (tmp_path / "tiny.yaml").write_text(tiny_plan().replace("concurrent_trials: 1", "concurrent_trials: auto"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def here() -> MachineFacts:
    return describe_machine()


def states(screen: str) -> dict[str, str]:
    """Name to state of each line of a screen."""
    return {name.strip(): state for state, name in re.findall(r"^  (ok|warn|bad) +(.{10})  ", screen, re.MULTILINE)}


def test_one_screen_says_that_a_search_can_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert main(["doctor", "tiny.yaml"]) == 0
    screen = capsys.readouterr().out
    assert not ray.is_initialized()
    assert {path for path in folder.rglob("*") if path.is_file()} == before
    assert screen.startswith("finesearch doctor: this machine (RAY_ADDRESS is not set: no cluster)")
    assert list(states(screen)) == [
        "versions", "compiler", "devices", "precision", "memory", "disk", "token", "sockets", "dashboard", "ports",
        "storage", "rights", "plan", "at once", "trial", "run", "time", "cache",
    ]  # fmt: skip
    said = " ".join(screen.split())
    assert re.search(r"tiny: text-classification; [\w-]+, 4 layers, 0\.\d M parameters; 60 training rows", said)
    assert re.search(r"\d trial\(s\), limited by (CPUs|memory|budget)", screen)
    assert "4 trials to their end and the baselines: about" in screen
    assert "-> A search makes one for a Ray that it starts" in screen, "there is no token in this home"
    assert re.search(r"^A search can start; [1-9] warnings?\.$", screen, re.MULTILINE)
    assert len(screen.splitlines()) < 45


def test_hardware_that_is_not_here_is_answered_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tiny.yaml", "--devices", "8xH100-80GB"]) == 0
    screen = capsys.readouterr().out
    assert "hardware    8xH100-80GB: 79 GB of each can be used" in screen
    for branch in ("full", "freeze_bottom", "head_only", "ordinary"):
        assert re.search(
            rf"ok    fits        {branch}: 0\.0 GB .* with 1 worker\(s\), ZeRO 0, \d+ × \d+ tokens", screen
        )
    assert max(map(len, screen.splitlines())) <= 118


def test_what_does_not_fit_elsewhere_is_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finesearch.training.cost_model.device_fit.RESERVED_BYTES", 0.0)
    assert main(["doctor", "tiny.yaml", "--devices", "1x0.001GB"]) == 0, "a search can start here"
    screen = capsys.readouterr().out
    assert "warn  fits not    ordinary: 0.0 GB" in screen
    assert "-> Nothing is known that would make it fit, with up to 64 such devices." in screen


@pytest.mark.parametrize(("plan", "devices"), [("tiny.yaml", "eight"), (None, "1x24GB")])
def test_devices_without_sense_or_plan_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], plan: str | None, devices: str
) -> None:
    assert main(["doctor", *([plan] if plan else []), "--devices", devices]) == 2
    assert "--devices: expected" in capsys.readouterr().err


def test_without_a_plan_the_machine_alone_is_examined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--storage", "elsewhere/runs"]) == 0
    screen = capsys.readouterr().out
    assert "plan" not in states(screen)
    assert f"{folder}/elsewhere/runs can be written" in " ".join(screen.split())
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "name", "said"),
    [
        (["gone.yaml"], "plan", "gone.yaml: no such file."),
        (["tiny.yaml", "--storage", "train.csv/runs"], "storage", "train.csv is a file or a broken link, expected"),
        (["tiny.yaml", "--storage", f"s3://a:{CANARY}@bucket"], "plan", "storage: expected no secret"),
        (["--storage", f"s3://a:{CANARY}@bucket"], "storage", "s3://***@bucket holds a user with a password"),
    ],
)
def test_what_keeps_a_search_from_starting_is_the_exit_status(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], name: str, said: str
) -> None:
    assert main(["doctor", *arguments]) == 1
    screen = capsys.readouterr().out
    assert states(screen)[name] == "bad"
    assert said in " ".join(screen.split())
    assert re.search(rf"^A search cannot start: .*\b{name}\b", screen, re.MULTILINE)
    assert CANARY not in screen


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "RAY_ADDRESS=127.0.0.1:1: nobody answers there within 5 s"),
        ("http://127.0.0.1:8265", "expected HOST:PORT of the cluster itself, or auto; got a URL"),
    ],
)
def test_a_cluster_that_is_not_there_is_bad_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, said: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(["doctor"]) == 1
    screen = capsys.readouterr().out
    assert states(screen)["cluster"] == "bad"
    assert said in " ".join(screen.split())
    assert not ray.is_initialized()


def test_data_and_model_that_do_not_fit_are_told(folder: Path) -> None:
    plan = load_plan("tiny.yaml", ["task.columns.text=sentense"])
    (finding,) = limit_findings(plan, Capacity((Node(2),), 8 * GIB))
    assert (finding.name, finding.state) == ("plan", "bad")
    assert "sentense" in finding.words


@pytest.mark.parametrize(
    ("change", "nodes", "memory", "said"),
    [
        ("budget.trials=100", (Node(3), Node(2)), 64 * GIB, "5 trial(s), limited by CPUs; on 2 nodes"),
        ("budget.trials=100", (Node(64),), 3 * GIB, "2 trial(s), limited by memory (devices would hold 64)"),
        ("budget.trials=3", (Node(64),), 64 * GIB, "3 trial(s), limited by budget.trials"),
        ("search.concurrent_trials=2", (Node(64),), 64 * GIB, "2 trial(s), as search.concurrent_trials says"),
    ],
)
def test_what_limits_the_trials_at_once_is_named(
    folder: Path, change: str, nodes: tuple[Node, ...], memory: int, said: str
) -> None:
    found = {f.name: f for f in limit_findings(load_plan("tiny.yaml", [change]), Capacity(nodes, memory))}
    assert said in found["at once"].words


def test_memory_and_disk_that_do_not_suffice_are_told(folder: Path) -> None:
    plan = load_plan("tiny.yaml", ["budget.disk_gib=0.001"])
    found = {finding.name: finding for finding in limit_findings(plan, Capacity((Node(2),), GIB))}
    assert found["trial"].state == "warn"
    assert found["trial"].words.startswith("a trial takes about 1.1 GiB of memory; there are 1.0\n")
    assert found["run"].state == "bad"
    assert "budget.disk_gib allows 0.00 GiB" in found["run"].words


def test_a_cluster_that_holds_no_trial_is_told(folder: Path) -> None:
    plan = load_plan("tiny.yaml", ["training.gpus_per_worker=1"])
    (finding,) = limit_findings(plan, Capacity((Node(2),), 8 * GIB))
    assert finding.state == "bad"
    assert "which hold 0 such worker(s)" in finding.words


def test_versions_are_held_against_the_constraints_and_other_nodes(here: MachineFacts) -> None:
    constraints = read_constraints()
    assert constraints["ray"].startswith("2.60")
    assert check_versions([here], {}).state == "ok"
    older = check_versions([here], {**constraints, "optuna": "4.0.0"})
    assert (older.state, "tested with" in older.words, "optuna 4.0.0" in older.words) == ("warn", True, True)
    missing = check_versions([replace(here, versions={**here.versions, "peft": ""})], constraints)
    assert (missing.state, f"missing: peft on {here.host}" in missing.words) == ("bad", True)
    other = replace(here, host="b", versions={**here.versions, "torch": "2.0.0"})
    differing = check_versions([here, other], constraints)
    assert (differing.state, "but b has torch 2.0.0" in differing.words) == ("warn", True)


def test_machines_that_are_too_small_or_hide_their_gpus_warn(here: MachineFacts) -> None:
    hidden = replace(here, gpus=(), has_gpu_driver=True)
    assert "but a GPU driver" in check_devices([hidden]).words
    assert check_devices([replace(hidden, has_gpu_driver=False)]).state == "ok"
    assert check_memory([replace(here, free_memory=GIB // 2)]).state == "warn"
    full = check_disks([replace(here, disks={"/cache": (200 * GIB, 1000 * GIB), "/tmp": (40 * GIB, 1000 * GIB)})])
    assert (full.state, "/tmp: 40.0 of 1000.0 GiB free" in full.words) == ("warn", True)


@pytest.mark.parametrize(
    ("token", "joins", "state", "said"),
    [
        (
            RayToken("token", "/home/ada/.ray/auth_token", True, 0o600),
            True,
            "ok",
            "auth_token (0600), RAY_AUTH_MODE=token",
        ),
        (RayToken("token", "/home/ada/.ray/auth_token", True, 0o644), True, "warn", "may be read by others (0644)"),
        (RayToken("token", "/home/ada/.ray/auth_token", False), True, "bad", "is missing or empty"),
        (RayToken("", "/home/ada/.ray/auth_token", False), True, "warn", "this cluster asks for none"),
        (RayToken("", "/home/ada/.ray/auth_token", True, 0o600), True, "warn", "RAY_AUTH_MODE is not set"),
        (RayToken("", "/home/ada/.ray/auth_token", True, 0o600), False, "ok", "a Ray that is started here asks for"),
        (RayToken("", "/home/ada/.ray/auth_token", False), False, "warn", "is missing or empty"),
        (RayToken("token", "/data/token", False, is_named=True), False, "bad", "/data/token is missing or empty"),
        (RayToken("disabled", "/home/ada/.ray/auth_token", True, 0o600), True, "warn", "takes commands from anybody"),
    ],
)
def test_a_token_that_is_missing_open_or_not_asked_for_is_told(
    token: RayToken, joins: bool, state: str, said: str
) -> None:
    finding = check_token(token, joins)
    assert finding.state == state
    assert said in finding.words
    assert bool(finding.advice) == (state != "ok")


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.write_text(CANARY)
    named.chmod(0o640)
    environment = {"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(named), "RAY_AUTH_MODE": "TOKEN"}
    assert find_token(environment) == RayToken("token", str(named), True, 0o640, True)
    assert find_token({**environment, "RAY_AUTH_TOKEN": CANARY}) == RayToken("token", "RAY_AUTH_TOKEN", True)
    assert find_token({"HOME": str(tmp_path)}) == RayToken("", str(tmp_path / ".ray" / "auth_token"), False)
    assert CANARY not in repr(find_token(environment))


@pytest.mark.skipif(not own_addresses(), reason="this machine has the loopback alone")
def test_a_dashboard_that_others_can_reach_warns() -> None:
    port = free_port()
    assert check_own_dashboard(port).words == f"none: nobody listens at port {port}"
    for host, state in (("127.0.0.1", "ok"), ("0.0.0.0", "warn")):
        with socket.create_server((host, port)):
            finding = check_own_dashboard(port)
            assert finding.state == state
            assert ("reachable from outside" in finding.words) == (state == "warn")
    assert DASHBOARD_PORT == 8265


def cluster(here: MachineFacts, *nodes: NodeFacts, **more: object) -> ClusterFacts:
    known = ClusterFacts("10.0.0.1:6379", "", Capacity((Node(2), Node(2)), 8 * GIB), nodes)
    return replace(known, **more)  # type: ignore[arg-type]


def test_nodes_that_differ_in_time_or_cannot_be_reached_warn(here: MachineFacts) -> None:
    first, second = NodeFacts("a", "10.0.0.1", True, here), NodeFacts("b", "10.0.0.2", False, here, 0.4, 0.01)
    good = cluster(here, first, second, links=(Link(("10.0.0.1", "10.0.0.2"), "gloo", 0.004),))
    assert check_clocks(good).words == "2 node(s) within 0.410 s"
    assert check_network(good).words == "1 MiB summed: gloo 10.0.0.1 - 10.0.0.2 4 ms"
    assert check_nodes(good).state == "ok"
    late = cluster(here, first, replace(second, clock_offset_s=-7.0))
    assert (check_clocks(late).state, check_clocks(late).words) == ("warn", "10.0.0.2 is -7.0 s off")
    # What a slow round trip could explain is no skew.
    assert (
        check_clocks(cluster(here, first, replace(second, clock_offset_s=2.0, clock_offset_error_s=1.5))).state == "ok"
    )
    broken = replace(good, links=(Link(("10.0.0.1", "10.0.0.2"), "gloo", problem="no answer within 40 s"),))
    assert (check_network(broken).state, "no answer within 40 s" in check_network(broken).words) == ("warn", True)
    dead = cluster(here, first, replace(second, machine=None, problem="No module named 'torch'"))
    assert (check_nodes(dead).state, exit_status([check_nodes(dead)])) == ("bad", 1)


def test_a_process_that_waits_for_its_peer_in_vain_says_so() -> None:
    seconds, problem = NodeProbe().all_reduce(0, "127.0.0.1", free_port(), "gloo", 1.0)
    assert seconds == 0.0
    assert "timed out" in problem.lower() or "timeout" in problem.lower()
    assert not torch.distributed.is_initialized()


def test_an_open_dashboard_warns_and_none_does_not(here: MachineFacts) -> None:
    assert check_dashboard(cluster(here, NodeFacts("a", "10.0.0.1", True, here))).state == "ok"
    reached = NodeFacts("b", "10.0.0.2", False, here, reaches_dashboard=True)
    finding = check_dashboard(cluster(here, reached, dashboard=f"127.0.0.1:{free_port()}"))
    assert finding.state == "warn"
    assert finding.words.endswith("and is reachable from outside: by 10.0.0.2")


def test_storage_that_everybody_may_write_or_that_nodes_do_not_see_is_told(tmp_path: Path, here: MachineFacts) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    nodes = (NodeFacts("a", "10.0.0.1", True, here), NodeFacts("b", "10.0.0.2", False, here))
    storage_probe = try_storage(str(runs))
    shared, rights = storage_findings(storage_probe, cluster(here, *nodes))
    assert (shared.state, "and 1 other node(s) see it" in shared.words) == ("ok", True)
    assert (rights.state, rights.advice.startswith(f"chmod o-w {runs}")) == ("warn", True)
    apart = ("10.0.0.2 (h2) does not see what the driver writes there",)
    lost, _ = storage_findings(storage_probe, cluster(here, *nodes, without_storage=apart))
    assert (lost.state, f"is not shared: {apart[0]}" in lost.words) == ("bad", True)
    assert list(runs.iterdir()) == []


def test_an_object_store_is_tried() -> None:
    with s3_bucket() as options:
        (found,) = storage_findings(try_storage(f"s3://{BUCKET}/runs?{options}"), None)
        assert (found.state, found.words) == ("ok", "s3://bucket/runs can be written")
        (lost,) = storage_findings(try_storage(f"s3://nowhere/runs?{options}"), None)
        assert lost.state == "bad"
        assert "there is no such bucket" in lost.words


def test_reasons_to_wait_warn() -> None:
    assert check_waiting(["a trial asks for 1 CPU"], 2).words == "nothing: 2 trial(s) could start now"
    waits = check_waiting(["a trial asks for 1 GPU", "node a: 2 GPUs held by job 3"], 0)
    assert (waits.state, waits.words.splitlines()[1]) == ("warn", "node a: 2 GPUs held by job 3")
