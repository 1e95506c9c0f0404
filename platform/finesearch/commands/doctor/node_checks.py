"""Checks of a cluster's nodes: that they answer, that their clocks agree, that they reach each other."""

from __future__ import annotations

from finesearch.commands.doctor.finding import Finding, bad, ok, warn
from finesearch.tuning.cluster.node_inspection import ClusterFacts

CLOCKS_DIFFER_S = 1.0
"""Clock offset above which times of trials and of leases are reported wrongly; object stores refuse at some minutes."""
SLOW_BYTES_PER_S = 50e6
REDUCED_BYTES = 1 << 20


def node_findings(cluster: ClusterFacts) -> list[Finding]:
    """Findings of every node check."""
    return [check_nodes(cluster), check_clocks(cluster), check_network(cluster)]


def check_nodes(cluster: ClusterFacts) -> Finding:
    """Every node of the cluster can run our code."""
    lost = [f"{node.address}: {node.problem}" for node in cluster.nodes if node.problem]
    if lost:
        advice = "Install constraints.txt there, in the environment that Ray is started in, or take the node out."
        return bad("nodes", "; ".join(lost), advice)
    return ok("nodes", cluster.capacity.describe())


def check_clocks(cluster: ClusterFacts) -> Finding:
    """Clocks of the nodes agree with this process's, within the error of a round trip."""
    known = [node for node in cluster.nodes if node.machine is not None]
    wrong = [node for node in known if abs(node.clock_offset_s) - node.clock_offset_error_s > CLOCKS_DIFFER_S]
    if wrong:
        words = ", ".join(f"{node.address} is {node.clock_offset_s:+.1f} s off" for node in wrong)
        return warn("clock", words, "Have every node keep time by NTP (chrony, systemd-timesyncd).")
    largest = max((abs(node.clock_offset_s) + node.clock_offset_error_s for node in known), default=0.0)
    return ok("clock", f"{len(known)} node(s) within {largest:.3f} s")


def check_network(cluster: ClusterFacts) -> Finding:
    """Two processes on different nodes all-reduce a megabyte, as trials with several workers do."""
    if len(cluster.nodes) < 2:
        return ok("network", "one node: nothing to reach")
    broken = [link for link in cluster.links if link.problem]
    if broken:
        words = "; ".join(f"{link.backend} {' - '.join(link.nodes)}: {link.problem}" for link in broken)
        advice = (
            "Open all TCP ports between the nodes; where a node has several networks, set GLOO_SOCKET_IFNAME "
            "(NCCL_SOCKET_IFNAME for GPUs) before Ray starts there. Until then keep all workers of a trial on one node."
        )
        return warn("network", words, advice)
    slow = [link for link in cluster.links if REDUCED_BYTES / max(link.seconds, 1e-9) < SLOW_BYTES_PER_S]
    words = "1 MiB summed: " + ", ".join(
        f"{link.backend} {' - '.join(link.nodes)} {1000 * link.seconds:.0f} ms" for link in cluster.links
    )
    if slow:
        advice = "Trials of several workers will wait for the network: keep workers_per_trial within a node."
        return warn("network", words, advice)
    return ok("network", words)
