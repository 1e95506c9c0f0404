"""Security checks of Ray: token, dashboard, ports."""

from __future__ import annotations

import urllib.error
import urllib.request

from finesearch.commands.doctor.finding import Finding, bad, ok, warn
from finesearch.tuning.cluster.addresses import can_connect, own_addresses
from finesearch.tuning.cluster.node_inspection import ClusterFacts
from finesearch.tuning.connection.ray_token import RayToken

DASHBOARD_PORT = 8265
TUNNEL = "Bind it to 127.0.0.1 (--dashboard-host) and forward the port over ssh (`ray dashboard`, or ssh -L)."
NEW_TOKEN = "(umask 077; ray get-auth-token --generate >/dev/null)"


def check_token(token: RayToken, joins: bool) -> Finding:
    """A token exists, is required, and only its owner may read it."""
    if token.mode == "disabled":
        advice = "Set RAY_AUTH_MODE=token and start Ray anew: else whoever reaches its ports runs code here."
        return warn("token", "RAY_AUTH_MODE=disabled: Ray takes commands from anybody", advice)
    if not token.is_present:
        none = f"none: {token.place} is missing or empty"
        if joins and token.mode == "token":
            return bad("token", none, "Copy the cluster's token there, mode 0600.")
        if joins:
            advice = f"On the head: {NEW_TOKEN}; set RAY_AUTH_MODE=token; start Ray anew."
            return warn("token", f"{none}, so this cluster asks for none", advice)
        if token.is_named:
            return bad("token", none, "Write the token there, mode 0600, or unset RAY_AUTH_TOKEN_PATH.")
        advice = f"A search makes one for a Ray that it starts; before you start a cluster: {NEW_TOKEN}"
        return warn("token", none, advice)
    if token.is_readable_by_others:
        assert token.rights is not None
        return warn("token", f"{token.place} may be read by others ({token.rights:04o})", f"chmod 600 {token.place}")
    rights = "" if token.rights is None else f" ({token.rights:04o})"
    if not token.mode and joins:
        advice = "Set RAY_AUTH_MODE=token wherever Ray is started, so that it never starts open."
        return warn("token", f"{token.place}{rights}, but RAY_AUTH_MODE is not set", advice)
    mode = f"RAY_AUTH_MODE={token.mode}" if token.mode else "which a Ray that is started here asks for"
    return ok("token", f"{token.place}{rights}, {mode}")


def check_own_dashboard(port: int = DASHBOARD_PORT) -> Finding:
    """On this machine, the dashboard's port answers on loopback only."""
    others = [address for address in own_addresses() if can_connect(address, port)]
    if others:
        return warn("dashboard", f"port {port} is reachable from outside, at {', '.join(others)}", TUNNEL)
    if can_connect("127.0.0.1", port):
        return ok("dashboard", f"127.0.0.1:{port} answers, on this machine alone")
    return ok("dashboard", f"none: nobody listens at port {port}")


def check_dashboard(cluster: ClusterFacts) -> Finding:
    """The cluster's dashboard accepts jobs only with the token, and other machines cannot reach it."""
    if not cluster.dashboard:
        return ok("dashboard", "none: this cluster takes no jobs")
    outside = [node.address for node in cluster.nodes if node.reaches_dashboard]
    answer = ask_without_token(f"http://{cluster.dashboard}/api/jobs/")
    if answer == 200:
        words = f"{cluster.dashboard} takes jobs without a token"
        if outside:
            words += f", and is reachable from outside ({', '.join(outside)})"
        return warn("dashboard", words, "Start Ray with RAY_AUTH_MODE=token and a token file. " + TUNNEL)
    demands = {401: "asks for the token", None: "does not answer from here"}.get(answer, f"answers {answer}")
    if outside:
        words = f"{cluster.dashboard} {demands}, and is reachable from outside: by {', '.join(outside)}"
        return warn("dashboard", words, TUNNEL)
    return ok("dashboard", f"{cluster.dashboard} {demands}; not reachable from other machines")


def check_ports() -> Finding:
    """The ports that Ray opens regardless of its settings."""
    return ok("ports", "Ray's own listen on all addresses, metrics without a token: a private network is required")


def ask_without_token(url: str) -> int | None:
    """HTTP status of a request without the token; None where nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
