"""`kubernetes.yaml`: through Ray's own reading of a RayCluster, and Kubernetes' own schemas for all that is in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from hosts import missing
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from clusters import free_port
from finesearch.cli import parser
from paths import ROOT

TEXT = (ROOT / "cluster" / "kubernetes.yaml").read_text(encoding="utf-8")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(TEXT))
JOB = DOCUMENTS[0]["spec"]
CLUSTER = JOB["rayClusterSpec"]
TEMPLATES = {
    "head": CLUSTER["headGroupSpec"]["template"],
    "worker": CLUSTER["workerGroupSpecs"][0]["template"],
    "submitter": JOB["submitterPodTemplate"],
    "desk": DOCUMENTS[2],
    "redis": DOCUMENTS[3]["spec"]["template"],
}
KUBERNETES = "1.33"


def document(kind: str) -> dict[str, Any]:
    (found,) = [given for given in DOCUMENTS if given["kind"] == kind]
    return found


def validated(given: dict[str, Any]) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate is not installed")
    kubernetes_validate.validate(given, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_pod_is_one_that_kubernetes_takes(name: str) -> None:
    template = TEMPLATES[name]
    validated({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]})
    for container in template["spec"]["containers"]:
        for limit in ("cpu", "memory"):
            assert container["resources"]["limits"][limit], f"{name} has no {limit} limit"
            assert container["resources"]["requests"][limit]
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    assert template["metadata"]["labels"]["app"] == "finesearch", "else the network policy does not know it"


@pytest.mark.parametrize("given", DOCUMENTS[1:], ids=lambda given: str(given["kind"]))
def test_everything_else_is_what_kubernetes_takes(given: dict[str, Any]) -> None:
    validated(given)


def test_ray_derives_workers_from_none_to_eight_with_a_gpu_each() -> None:
    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "finesearch", "namespace": "default"}, "spec": CLUSTER}
    )
    assert CLUSTER["enableInTreeAutoscaling"] is True
    head, worker = config["available_node_types"]["headgroup"], config["available_node_types"]["gpu"]
    assert (worker["min_workers"], worker["max_workers"]) == (0, 8)
    assert worker["resources"] == {"CPU": 4, "GPU": 1, "memory": 24 * 2**30}
    assert head["resources"] == {"CPU": 4, "memory": 16 * 2**30}
    assert config["idle_timeout_minutes"] == 10


def test_a_search_that_fails_goes_on_in_a_new_cluster_and_the_head_may_restart() -> None:
    assert JOB["backoffLimit"] >= 1
    assert JOB["shutdownAfterJobFinishes"] is True
    address = CLUSTER["gcsFaultToleranceOptions"]["redisAddress"]
    service = document("Service")
    assert address == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert service["spec"]["selector"].items() <= TEMPLATES["redis"]["metadata"]["labels"].items()


def test_runs_lie_on_the_volume_that_every_node_mounts() -> None:
    claim = document("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in ("head", "worker", "desk"):
        spec = TEMPLATES[name]["spec"]
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if v["name"] == "shared"}
        assert mounts["shared"] == "/mnt/shared"
        assert claims == {"shared": claim["metadata"]["name"]}
    words = JOB["entrypoint"].split()
    assert words[:2] == ["python", "platform/search.py"]
    given = parser().parse_args(["search", *words[2:]])
    assert (str(given.storage), str(given.reports)) == ("/mnt/shared/runs", "/mnt/shared/reports")


def test_nothing_starts_open() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "finesearch"}
    containers = [TEMPLATES[name]["spec"]["containers"][0] for name in ("head", "worker", "submitter")]
    for environment in (*(given["env"] for given in containers), CLUSTER["autoscalerOptions"]["env"]):
        variables = {given["name"]: given for given in environment}
        # Said here as well, so that an operator too old for authOptions starts nothing open.
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": "finesearch", "key": "auth_token"}
    head = {given["name"]: given.get("value") for given in containers[0]["env"]}
    assert head["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
    assert head["RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"] == "/home/ray/finesearch/cluster/grafana"
    assert TEMPLATES["head"]["spec"]["terminationGracePeriodSeconds"] > 60
    assert CLUSTER["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "RAY_AUTH_MODE=token" in (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8")


def test_only_the_clusters_own_pods_and_the_operator_are_let_in() -> None:
    policy = document("NetworkPolicy")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "finesearch"}}
    (rule,) = policy["ingress"]
    assert [peer.get("podSelector", {}).get("matchLabels") for peer in rule["from"]] == [
        {"app": "finesearch"},
        {"app.kubernetes.io/name": "kuberay-operator"},
    ]
    assert not [given for given in DOCUMENTS if given["kind"] == "Ingress"]
    assert "A private network is required" in TEXT.replace("\n# ", " ")


def test_the_commands_for_the_secret_make_a_token_that_only_its_owner_reads(tmp_path: Path) -> None:
    lines = re.findall(r"^#   (.*)$", TEXT, re.MULTILINE)
    shell, *secret = lines
    assert shell.startswith("umask 077")
    environment = {**os.environ, "HOME": str(tmp_path)}
    for _ in range(2):
        subprocess.run(["bash", "-c", shell], env=environment, check=True, timeout=30)
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    # What kubectl would be given: files, never the secrets themselves, which a list of processes would show.
    stand_in = tmp_path / "kubectl"
    stand_in.write_text('#!/bin/bash\nprintf "%s\\n" "$@"; for last; do :; done; cat "${last##*=}"\n')
    stand_in.chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(secret)], env=environment, check=True, capture_output=True, text=True, timeout=30
    )
    words = done.stdout.split()
    assert words[:4] == ["create", "secret", "generic", "finesearch"]
    assert words[4] == f"--from-file=auth_token={token}"
    assert re.fullmatch(r"[0-9a-f]{64}", words[-1]), "the password arrives by standard input"
    keys = {word.split("=")[1] for word in words[4:6]}
    assert keys == set(re.findall(r"name: finesearch, key: (\w+)", TEXT))


def test_every_line_with_a_name_of_the_user_is_marked() -> None:
    named = [line for line in TEXT.splitlines() if "YOUR-" in line]
    assert len(named) == 2
    assert all("FILL IN" in line for line in named)


def test_the_image_is_made_of_what_is_there_and_of_this_ray() -> None:
    dockerfile = (ROOT / "cluster" / "Dockerfile").read_text(encoding="utf-8")
    admitted = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    sources = [word for line in re.findall(r"^COPY --\S+ (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]
    assert {"platform", "search_spaces", "cluster", "constraints.txt", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}\n" in admitted
    assert "bash cluster/install.sh" in dockerfile
    assert CLUSTER["rayVersion"] == ray.__version__


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """The Redis of the file, started by its own command; its port."""
    if shutil.which("redis-server") is None:
        missing("redis-server is not installed")
    container = TEMPLATES["redis"]["spec"]["containers"][0]
    port = free_port()
    *shell, script = container["command"]
    script = script.replace("dir /data", f"dir {tmp_path}\nport {port}\nbind 127.0.0.1")
    environment = {**os.environ, "REDIS_PASSWORD": "secret"}
    server = subprocess.Popen([*shell, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.terminate()
        assert server.wait(20) == 0, "it ends when it is asked, with what it knows on disk"


def test_the_redis_of_the_file_asks_for_its_password(redis: int, tmp_path: Path) -> None:
    def answer(*options: str) -> str:
        command = ["redis-cli", "-p", str(redis), *options, "ping"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout

    by = time.monotonic() + 20
    while "refused" in (said := answer()) or not said:
        assert time.monotonic() < by, "Redis does not answer"
        time.sleep(0.1)
    assert "NOAUTH" in said
    assert answer("--no-auth-warning", "-a", "secret") == "PONG\n"
    assert "secret" not in " ".join(_command_lines("redis-server"))


def _command_lines(program: str) -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if program in line:
            lines.append(line)
    return lines
