"""Slurm on hosts: Debian's slurmctld on the first, slurmd on each, munge between them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from host_ray import bring_environment, bring_project
from hosts import Host, Lan

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scancel", "sinfo", "shellcheck")
CONFIGURATION = """
ClusterName=lab
SlurmctldHost={head}
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=/var/lib/slurm-lab
SlurmdSpoolDir=/var/spool/slurmd-lab
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
KillWait=30
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def start_slurm(lan: Lan) -> None:
    """Slurm over all hosts of a LAN, each with one CPU and the project in ``~/finesearch``; all are idle then."""
    key = os.urandom(1024)
    nodes = "\n".join(f"NodeName={host.name} NodeAddr={host.address} CPUs=1 State=UNKNOWN" for host in lan.hosts)
    for host in lan.hosts:
        bring_environment(host)
        bring_project(host)
        host.run("mkdir -p /run/munge /etc/munge /etc/slurm /var/lib/munge /var/log/munge /var/lib/slurm-lab")
        _write(host, "/etc/munge/lab.key", key)
        _write(host, "/etc/slurm/slurm.conf", CONFIGURATION.format(head=lan.hosts[0].name, nodes=nodes).encode())
        _write(host, "/etc/slurm/cgroup.conf", b"CgroupPlugin=cgroup/v1\n")
        host.run("chmod 755 /run/munge; chown root:root /etc/munge /var/lib/munge /var/log/munge")
        host.run("munged --force --key-file=/etc/munge/lab.key --num-threads=1")
    lan.hosts[0].run("slurmctld")
    for host in lan.hosts:
        host.run(f"slurmd -N {host.name}")
    by = time.monotonic() + 60
    while (said := lan.hosts[0].run("sinfo -h -N -o %T").stdout.split()) != ["idle"] * len(lan.hosts):
        assert time.monotonic() < by, f"{said}: {lan.hosts[0].run('cat /var/log/slurmctld.log').stdout}"
        time.sleep(0.5)


def _write(host: Host, path: str, content: bytes) -> None:
    target = Path(host.path(path))
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(0o600 if path.endswith(".key") else 0o644)
