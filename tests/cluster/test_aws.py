"""`aws.yaml` against an AWS that answers over HTTP: what Ray would create there, and what `ray down` leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from hosts import missing

from clusters import BIN, environment, free_port
from paths import ROOT

MINE = "198.51.100.0/24"
LAUNCH = """
import json, sys, yaml
from ray.autoscaler._private.commands import _bootstrap_config, _get_node_provider
from ray.autoscaler.tags import NODE_KIND_HEAD, NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

config = _bootstrap_config(yaml.safe_load(open(sys.argv[1])), no_config_cache=True)
provider = _get_node_provider(config["provider"], config["cluster_name"])
for name, kind in (("head", NODE_KIND_HEAD), ("worker", NODE_KIND_WORKER), ("worker", NODE_KIND_WORKER)):
    # Ray gives its role to the head alone.
    extra = config["head_node"] if kind == NODE_KIND_HEAD else {}
    tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: name}
    provider.create_node({**config["available_node_types"][name]["node_config"], **extra}, tags, 1)
print(json.dumps({name: kind["resources"] for name, kind in config["available_node_types"].items()}))
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An empty account; the environment that reaches it."""
    for module in ("moto.server", "boto3"):
        try:
            import_module(module)
        except ImportError as error:
            missing(f"{module} cannot be imported: {error}")
    port, home = free_port(), tmp_path_factory.mktemp("home")
    variables = environment(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing",
        AWS_EC2_METADATA_DISABLED="true", AWS_DEFAULT_REGION="us-west-2", HOME=str(home), TMPDIR=str(home),
    )  # fmt: skip
    variables.pop("AWS_PROFILE", None)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            try:
                requests.get(f"http://127.0.0.1:{port}/moto-api/", timeout=5)
                break
            except requests.ConnectionError:
                assert server.poll() is None, "the server did not start"
                time.sleep(0.1)
        yield variables
    finally:
        server.kill()
        server.wait()


def ask(account: dict[str, str], service: str) -> Any:
    return import_module("boto3").client(
        service, region_name="us-west-2", endpoint_url=account["AWS_ENDPOINT_URL"],
        aws_access_key_id="testing", aws_secret_access_key="testing",
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster(account: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """`aws.yaml` with the user's names filled in and launched: its path, the security group, resources by node type."""
    ec2, iam = ask(account, "ec2"), ask(account, "iam")
    network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    # The very group that cluster/README.md has the user make.
    group = ec2.create_security_group(GroupName="finesearch", Description="finesearch", VpcId=network)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
    )
    ec2.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp=MINE)
    # As after a first launch; Ray waits half a minute when it makes them.
    document = {"Statement": {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "*"}}
    iam.create_role(RoleName="ray-autoscaler-v1", AssumeRolePolicyDocument=json.dumps(document))
    iam.create_instance_profile(InstanceProfileName="ray-autoscaler-v1")
    iam.add_role_to_instance_profile(InstanceProfileName="ray-autoscaler-v1", RoleName="ray-autoscaler-v1")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    text = (ROOT / "cluster" / "aws.yaml").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("aws") / "aws.yaml"
    path.write_text(text.replace("sg-YOUR-GROUP", group).replace("ami-YOUR-IMAGE", image))
    done = subprocess.run(
        [BIN / "python", "-c", LAUNCH, path], cwd=ROOT, env=account, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path, group, json.loads(done.stdout.splitlines()[-1])


def instances(account: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Instances by node type, whatever their state."""
    found: dict[str, list[dict[str, Any]]] = {"head": [], "worker": []}
    for reservation in ask(account, "ec2").describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            found[tags["ray-user-node-type"]].append(instance)
    return found


def test_a_head_without_gpu_and_spot_workers_with_one(
    account: dict[str, str], cluster: tuple[Path, str, dict[str, Any]]
) -> None:
    _, group, resources = cluster
    assert resources["worker"]["GPU"] == 1
    assert "GPU" not in resources["head"]
    found = instances(account)
    assert (len(found["head"]), len(found["worker"])) == (1, 2)
    for instance in (*found["head"], *found["worker"]):
        assert [given["GroupId"] for given in instance["SecurityGroups"]] == [group]
        assert instance["Placement"]["AvailabilityZone"] == "us-west-2a"
        assert instance["KeyName"] == "ray-autoscaler_us-west-2"
    assert all(worker["InstanceLifecycle"] == "spot" for worker in found["worker"])
    assert "InstanceLifecycle" not in found["head"][0]
    assert found["head"][0]["IamInstanceProfile"]["Arn"].endswith("/ray-autoscaler-v1")
    key = Path(account["HOME"]) / ".ssh" / "ray-autoscaler_us-west-2.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_no_security_group_opens_to_the_world(
    account: dict[str, str], cluster: tuple[Path, str, dict[str, Any]]
) -> None:
    groups = ask(account, "ec2").describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default", "finesearch"}, "Ray made one of its own"
    for group in groups:
        for rule in group["IpPermissions"]:
            assert all(given["CidrIp"] == MINE for given in rule["IpRanges"]), group["GroupName"]
            assert not rule["Ipv6Ranges"], group["GroupName"]


def test_without_the_group_ray_would_open_port_22_to_the_world(
    account: dict[str, str], cluster: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    # Why aws.yaml asks for a group; were this to fail, the file could be simpler.
    config = yaml.safe_load(cluster[0].read_text())
    config["cluster_name"] = "open"
    for kind in config["available_node_types"].values():
        del kind["node_config"]["SecurityGroupIds"]
    path = tmp_path / "open.yaml"
    path.write_text(yaml.safe_dump(config))
    script = LAUNCH[: LAUNCH.index("provider =")]
    subprocess.run([BIN / "python", "-c", script, path], cwd=ROOT, env=account, capture_output=True, timeout=120)
    ec2 = ask(account, "ec2")
    (made,) = [
        group
        for group in ec2.describe_security_groups()["SecurityGroups"]
        if group["GroupName"] == "ray-autoscaler-open"
    ]
    ranges = [given["CidrIp"] for rule in made["IpPermissions"] for given in rule["IpRanges"]]
    ec2.delete_security_group(GroupId=made["GroupId"])
    assert ranges == ["0.0.0.0/0"]


def test_ray_down_terminates_every_instance(account: dict[str, str], cluster: tuple[Path, str, dict[str, Any]]) -> None:
    # Without ssh on the path: the instances cannot be logged in to, and `ray down` goes on without.
    variables = {**account, "PATH": str(BIN)}
    done = subprocess.run(
        [BIN / "ray", "down", "-y", cluster[0]], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    states = [instance["State"]["Name"] for kind in instances(account).values() for instance in kind]
    assert states == ["terminated"] * 3, "a stopped instance keeps its disk, which is paid for"
