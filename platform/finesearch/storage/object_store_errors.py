"""Turns an object store's errors into messages with advice, and tells which are worth a retry."""

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
    """The error for the user: where (without keys), what was tried, what came, what to do. The store's own message is
    shortened, and URIs in it are left out, since they may hold keys."""
    message = URI.sub("…", str(error)).strip() or type(error).__name__
    # Writing creates a missing object, so only the bucket can be missing.
    found = NO_BUCKET if isinstance(error, FileNotFoundError) and what == "written" else _cause(error)
    why, advice = found or UNKNOWN
    return StorageError(f"storage {where}: cannot be {what}: {why} ({message.splitlines()[0][:300]}). {advice}")


def is_final(error: OSError) -> bool:
    """Whether a retry cannot help."""
    return isinstance(error, FileNotFoundError | PermissionError) or _cause(error) not in (None, NO_ANSWER)


def _cause(error: OSError) -> tuple[str, str] | None:
    return next((said for pattern, said in CAUSES.items() if re.search(pattern, str(error))), None)
