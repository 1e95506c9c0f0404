"""URIs of object stores: checks, redacted form for messages, and opening the connection.

Keys come from where the store's own tools find them (environment, profile, role of the machine), never from the URI,
and no message shows more of a URI than its path.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from finesearch.errors import PlanError
from finesearch.redaction import is_secret_in_query
from finesearch.storage.object_store_errors import store_error

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "gcs")
RETRY_LIMIT_S = 15
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def shown_uri(uri: str) -> str:
    """A URI as messages show it: without possible secrets.

    >>> shown_uri("s3://AKIA:secret@bucket/runs?region=eu-central-1&token=x")
    's3://bucket/runs'
    """
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_uri(uri: str) -> None:
    """Check that a URI can name an object store.

    Raises:
        PlanError: it is of another kind, names no bucket, or holds a key.
    """
    parts, options = urlsplit(uri), parse_qsl(urlsplit(uri).query)
    if parts.scheme not in SCHEMES:
        raise PlanError(
            f"storage: expected a folder, file://, s3:// or gs://, got {shown_uri(uri)}. A folder that every "
            "node mounts does as well."
        )
    account, _, bucket = parts.netloc.rpartition("@")
    if not bucket:
        raise PlanError(
            f"storage: {shown_uri(uri)} names no bucket. Expected {parts.scheme}://BUCKET/FOLDER, "
            f"such as {parts.scheme}://my-bucket/runs."
        )
    secret = [name for name, _ in options if is_secret_in_query(name)]
    if secret or (account and not (account == "anonymous" and parts.scheme != "s3")):
        where = f"in its query ({', '.join(secret)})" if secret else "before the bucket"
        raise PlanError(
            f"storage: {shown_uri(uri)} holds a key {where}, which would stand in plan.yaml and in reports. Leave "
            "it out and give it by the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "GOOGLE_APPLICATION_CREDENTIALS), a profile, or the role of the machines."
        )


def bucket_and_key(uri: str) -> str:
    """The part after the scheme, without account and options, as pyarrow expects it."""
    parts = urlsplit(uri)
    return f"{parts.netloc.rpartition('@')[2]}/{parts.path.strip('/')}".rstrip("/")


@cache
def open_filesystem(uri: str, shown: str) -> FileSystem:
    """The connection to the store of a URI that ends at its bucket, opened once a process.

    Raises:
        PlanError: an option is unknown; StorageError: the store cannot be opened.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(_with_defaults(uri))[0]
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        text = str(error).replace(uri, shown).splitlines()[0]
        if isinstance(error, OSError):
            raise store_error(shown, "opened", error) from None
        raise PlanError(
            f"storage: {shown} cannot be used: {text}. Behind `?` may stand region, scheme and "
            "endpoint_override, as in s3://bucket/runs?endpoint_override=HOST:PORT&scheme=http&region=us-east-1."
        ) from None


def _with_defaults(uri: str) -> str:
    """The URI with options that pyarrow would otherwise spend long to find: it asks Amazon for the region of any
    bucket, and retries Google for a quarter of an hour when it does not answer."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3":
        options.setdefault("retry_limit_seconds", str(RETRY_LIMIT_S))
    elif "region" not in options:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        elsewhere = "endpoint_override" in options or any(map(os.environ.get, ENDPOINTS))
        if region is not None or elsewhere:
            options["region"] = region or "us-east-1"
    return urlunsplit(parts._replace(query=urlencode(options)))
