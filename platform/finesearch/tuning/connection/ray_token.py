"""Ray's authentication token: where it is, who may read it, and creating one; never its value."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finesearch.storage.atomic_files import storage_errors


@dataclass(frozen=True)
class RayToken:
    """Facts about the token that this process would send to a cluster."""

    mode: str
    """``token``, ``disabled``, or empty where ``RAY_AUTH_MODE`` is not set."""
    place: str
    """The variable or file that it is read from."""
    is_present: bool
    rights: int | None = None
    """Permission bits of the file; None where there is no file."""
    is_named: bool = False
    """Whether ``RAY_AUTH_TOKEN_PATH`` names the file."""

    @property
    def is_readable_by_others(self) -> bool:
        return self.rights is not None and bool(self.rights & 0o077)


def find_token(environment: Mapping[str, str] = os.environ) -> RayToken:
    """Find the token in Ray's order: variable, file that a variable names, file in the home directory."""
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    if environment.get("RAY_AUTH_TOKEN"):
        return RayToken(mode, "RAY_AUTH_TOKEN", True)
    path, is_named = _path(environment), bool(environment.get("RAY_AUTH_TOKEN_PATH"))
    try:
        found = path.stat()
    except OSError:
        return RayToken(mode, str(path), False, is_named=is_named)
    return RayToken(mode, str(path), found.st_size > 0, stat.S_IMODE(found.st_mode), is_named)


def make_token(environment: Mapping[str, str] = os.environ) -> None:
    """Create the token file, unless it exists, for a Ray that is about to start here; only its owner may read it.

    Ray would create it readable by everybody on the machine.

    Raises:
        StorageError: the home directory cannot be written.
    """
    token = find_token(environment)
    if token.mode == "disabled" or token.is_present or token.is_named:
        return
    path = _path(environment)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with storage_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
            os.link(temporary, path)  # another search may have created it first: its token stays
        except FileExistsError:
            pass
        finally:
            temporary.unlink()


def _path(environment: Mapping[str, str]) -> Path:
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".ray" / "auth_token"
