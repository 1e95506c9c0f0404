"""What the refusals of an object store mean, and what to do about them."""

from __future__ import annotations

import re

from finesearch.errors import StorageError

NO_BUCKET = ("there is no such bucket", "Create it first, or correct the name.")
NO_ANSWER = (
    "the store did not answer",
    "See that this machine reaches it; for a store of your own give endpoint_override, scheme and region behind `?` in "
    "the URI, or AWS_ENDPOINT_URL.",
)
NO_RIGHT = ("access was denied", "Give this machine keys or a role that may list, read, write and delete there.")
UNKNOWN = ("the store refused", "Choose another with --storage or `storage:` in the plan.")
CAUSES = {
    r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist": NO_BUCKET,
    r"ACCESS_DENIED|AccessDenied|Forbidden|\b40[13]\b|UNAUTHENTICATED|PERMISSION_DENIED|INVALID_ACCESS_KEY|SIGNATURE": (
        NO_RIGHT
    ),
    r"NETWORK_CONNECTION|curlCode|Could not resolve|Couldn't connect|UNAVAILABLE|DEADLINE_EXCEEDED": NO_ANSWER,
}
URI = re.compile(r"\b\w+://\S+")


def store_error(where: str, what: str, error: OSError) -> StorageError:
    """The error as it is told: where (without keys), what was tried, what came, what to do. What the store says is cut
    short, and URIs in it are left out, since they may hold keys."""
    said = URI.sub("…", str(error)).strip() or type(error).__name__
    # An object is made where it was missing; a bucket is not.
    found = NO_BUCKET if isinstance(error, FileNotFoundError) and what == "written" else _cause(error)
    why, advice = found or UNKNOWN
    return StorageError(f"storage {where}: cannot be {what}: {why} ({said.splitlines()[0][:300]}). {advice}")


def is_final(error: OSError) -> bool:
    """Whether trying again cannot help."""
    return isinstance(error, FileNotFoundError | PermissionError) or _cause(error) not in (None, NO_ANSWER)


def _cause(error: OSError) -> tuple[str, str] | None:
    return next((said for pattern, said in CAUSES.items() if re.search(pattern, str(error))), None)
