"""Asks the autoscaler for nodes through pending placement groups.

An autoscaler adds nodes for placement groups that are pending. These hold nothing: one that is placed is removed at
once, and its devices go to a worker group. They end with the driver, however it ends; a request by
``ray.autoscaler.sdk.request_resources`` would stand until it is withdrawn, and keep nodes that cost money.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from finesearch.plan import Plan
from finesearch.tuning.cluster.resource_usage import NODE_REQUEST_PREFIX

ANSWER_TIMEOUT_S = 5
STATUS = b"__autoscaling_status"
"""Key under which Ray's monitor (autoscaler version 1) reports, also on clusters without an autoscaler."""


@dataclass(frozen=True)
class AutoscalerReply:
    """The autoscaler's answer to the pending requests.

    refused: number of requests that cannot be met; all of them where ``is_static``, on a cluster without an
    autoscaler. is_known: it has considered all of them. Ray's autoscaler version 1 reports neither, and nothing is
    known before the first report.
    """

    refused: int = 0
    is_known: bool = False
    is_static: bool = False


class NodeRequests:
    """Requests to the cluster for devices of further trials."""

    def __init__(self, plan: Plan) -> None:
        training = plan.training
        bundle = {"CPU": training.cpus_per_worker}
        if training.gpus_per_worker:
            bundle["GPU"] = training.gpus_per_worker
        self._bundles = [dict(bundle) for _ in range(training.workers_per_trial)]
        self._pending: list[Any] = []
        self._seen_at: int | None = None  # version of the cluster state that contained the newest request

    def ask(self, trials: int) -> None:
        """Request devices for ``trials``, replacing earlier requests; placed requests are removed."""
        from ray.util import placement_group, placement_group_table

        table = placement_group_table() if self._pending else {}
        found = [group for group in self._pending if table.get(group.id.hex(), {}).get("state") != "PENDING"]
        self._take_back(found)
        self._take_back(self._pending[max(0, trials) :])
        while len(self._pending) < trials:
            self._pending.append(placement_group(self._bundles, name=f"{NODE_REQUEST_PREFIX}-{uuid.uuid4().hex}"))
            self._seen_at = None

    def answer(self) -> AutoscalerReply:
        """The autoscaler's answer; refused requests are withdrawn."""
        import ray
        from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
        from ray.experimental.internal_kv import _internal_kv_get

        if not self._pending:
            return AutoscalerReply(is_known=True)
        client: Any = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
        reply = GetClusterStatusReply()
        reply.ParseFromString(client.get_cluster_status(timeout_s=ANSWER_TIMEOUT_S))
        autoscaling, cluster = reply.autoscaling_state, reply.cluster_resource_state
        # The details of a request begin with the placement group's id.
        pending = " ".join(gang.details for gang in cluster.pending_gang_resource_requests)
        infeasible = " ".join(gang.details for gang in autoscaling.infeasible_gang_resource_requests)
        if self._seen_at is None and all(group.id.hex() in pending for group in self._pending):
            self._seen_at = cluster.cluster_resource_state_version
        is_known = self._seen_at is not None and autoscaling.last_seen_cluster_resource_state_version >= self._seen_at
        refused = [group for group in self._pending if group.id.hex() in infeasible]
        static = not autoscaling.autoscaler_state_version and is_static(_internal_kv_get(STATUS))
        if static:
            refused = list(self._pending)
        self._take_back(refused)
        return AutoscalerReply(len(refused), is_known, static)

    def end(self) -> None:
        """Withdraw all requests."""
        self._take_back(self._pending)

    def _take_back(self, groups: list[Any]) -> None:
        from ray.util import remove_placement_group

        for group in list(groups):
            self._pending.remove(group)
            remove_placement_group(group)


def is_static(status: bytes | None) -> bool:
    """Whether a report comes from a cluster without an autoscaler: there, every node has its own node type.

    >>> is_static(b'{"autoscaler_report": {"active_nodes": {"node_3c": 1}, "node_type_mapping": {"3c": "node_3c"}}}')
    True
    >>> is_static(b'{"autoscaler_report": {"active_nodes": {"head": 1}, "node_type_mapping": {"3c": "head"}}}')
    False
    >>> is_static(None)
    False
    """
    if status is None:
        return False
    types = (json.loads(status).get("autoscaler_report") or {}).get("node_type_mapping") or {}
    return bool(types) and all(kind == f"node_{node}" for node, kind in types.items())
