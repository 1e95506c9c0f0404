"""Pushes an export to the hub."""

from __future__ import annotations

from pathlib import Path

from finesearch.errors import InputError, StorageError


def check_push(repo: str) -> None:
    """Refuse what could not be pushed, before anything is exported.

    Raises:
        InputError: ``repo`` is no name of a repository, the hub is switched off, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--push {repo}: expected a repository such as ada/reviews. {error}") from error
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"--push {repo}: HF_HUB_OFFLINE is set. Unset it, or export without --push.")
    if get_token() is None:
        raise InputError(f"--push {repo}: the hub asks who you are. Run `hf auth login`, or set HF_TOKEN.")


def push(folder: Path, repo: str, public: bool) -> str:
    """Replace what a repository on the hub holds by the export, in one commit; returns the repository's address.

    A repository that is not there is made, for its owner alone unless ``public``. One that is there stays as visible as
    it is, and its history keeps what it held.

    Raises:
        StorageError: the hub refuses, or does not answer; the export stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message="Checkpoint chosen by finesearch",
            delete_patterns="*",
        )
    except Exception as error:  # the library lets errors of its HTTP client through, which differs by version
        said = str(error).strip().splitlines()
        raise StorageError(
            f"--push {repo}: the hub did not take it: {said[0] if said else type(error).__name__}. The export is in "
            f"{folder}; `hf upload {repo} {folder}` tries again."
        ) from error
    return str(made)
