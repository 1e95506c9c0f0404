"""A place in an object store: what is written is there whole, what goes wrong is told, and no key is ever shown."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import finesearch.storage.object_store
import finesearch.storage.object_uri
from finesearch.errors import FinesearchError, PlanError, StorageError
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.open_store import open_store
from object_stores import BUCKET, KEYS, gs_bucket, s3_bucket, s3_options, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with gs_bucket() as options:
        yield options


@pytest.fixture(params=["s3", "gs"])
def place(request: pytest.FixtureRequest) -> ObjectStore:
    name = request.node.originalname
    if request.param == "s3":
        return ObjectStore(f"s3://{BUCKET}/runs/{name}?{request.getfixturevalue('server')}")
    return ObjectStore(f"gs://anonymous@{BUCKET}/runs/{name}?{request.getfixturevalue('google')}")


def names(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_objects_are_written_read_listed_and_deleted(place: ObjectStore) -> None:
    assert place.read("plan.yaml") is None
    assert place.files() == {}
    place.write("plan.yaml", b"name: a")
    place.child("scores").write("a.json", b"{}")
    assert place.read("plan.yaml") == b"name: a"
    assert set(place.files()) == {"plan.yaml", "scores/a.json"}
    assert place.folders() == {"scores"}
    place.write("plan.yaml", b"name: b")
    assert place.read("plan.yaml") == b"name: b"
    place.delete_file("plan.yaml")
    place.delete_file("plan.yaml")
    place.child("scores").delete()
    assert place.files() == {}
    assert place.folders() == set()


def test_a_folder_goes_there_and_back_and_its_manifest_last(
    place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.bin", "manifest.json", "resume/manifest.json", "resume/a.bin"):
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(name.encode() * 1000)
    order: list[str] = []
    upload = ObjectStore.upload_file
    monkeypatch.setattr(
        ObjectStore, "upload_file", lambda self, path, name: (upload(self, path, name), order.append(name))
    )
    place.upload(tmp_path / "there", last=("resume/manifest.json", "manifest.json"))
    assert order[2:] == ["resume/manifest.json", "manifest.json"]
    place.download(tmp_path / "back")
    assert names(tmp_path / "back") == names(tmp_path / "there")


def test_what_is_moved_is_there_and_no_longer_here(place: ObjectStore) -> None:
    place.write("plan.yaml", b"name: a")
    place.write("checkpoints/trial-0001/x", b"x")
    place.move(place.beside("other"), last="plan.yaml")
    assert place.files() == {}
    assert set(place.beside("other").files()) == {"plan.yaml", "checkpoints/trial-0001/x"}


def test_a_place_crosses_processes_as_its_uri(place: ObjectStore) -> None:
    place.write("a", b"a")
    again = pickle.loads(pickle.dumps(place))
    assert again == place
    assert again.read("a") == b"a"


def test_the_endpoint_may_come_from_the_environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(option.split("=") for option in server.split("&"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{options['endpoint_override']}")
    finesearch.storage.object_uri.open_filesystem.cache_clear()
    place = ObjectStore(f"s3://{BUCKET}/from-the-environment")
    place.check()
    assert place.files() == {}


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("hdfs://host/runs", r"storage: expected a folder, file://, s3:// or gs://, got hdfs://host/runs\."),
        ("s3:///runs", r"storage: s3:///runs names no bucket\. Expected s3://BUCKET/FOLDER"),
        ("s3://AKIA:hidden@bucket/runs", r"s3://bucket/runs holds a key before the bucket.*AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/runs?secret_key=hidden", r"s3://bucket/runs holds a key in its query \(secret_key\)"),
        ("gs://bucket/runs?access_token=hidden", r"gs://bucket/runs holds a key in its query \(access_token\)"),
    ],
)
def test_a_uri_that_cannot_be_used_or_holds_a_key_is_refused_without_showing_it(storage: str, said: str) -> None:
    with pytest.raises(PlanError, match=said) as refused:
        ObjectStore(storage)
    assert "hidden" not in refused.value.message


def test_an_unknown_option_is_named(server: str) -> None:
    with pytest.raises(PlanError, match=r"s3://bucket/runs cannot be used: .*'colour'.* endpoint_override"):
        ObjectStore(f"s3://bucket/runs?{server}&colour=blue").check()


def test_a_missing_bucket_is_named_with_what_to_do(place: ObjectStore) -> None:
    nowhere = ObjectStore(place.uri.replace(f"{BUCKET}/", "nowhere/"))
    with pytest.raises(StorageError, match=r"//nowhere/\S+: cannot be written: there is no such bucket \(.*Create it"):
        nowhere.check()


def test_a_place_may_be_tried_before_anything_is_in_it(place: ObjectStore) -> None:
    place.check()
    assert place.files() == {}


def test_a_store_that_does_not_answer_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finesearch.storage.object_store, "TRIES", 1)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    place = ObjectStore("s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    with pytest.raises(StorageError, match=r"the store did not answer \(.*endpoint_override, scheme and region"):
        place.check()


def free_actions(address: str, number: str) -> str:
    """Have a server look at keys after so many actions; what the number was before."""
    ask = Request(f"http://{address}/moto-api/reset-auth", number.encode(), {"Content-Type": "text/plain"})
    with urlopen(ask) as told:
        return str(json.loads(told.read())["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"])


def test_keys_without_rights_are_told_apart_from_a_store_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as address:
        # From now on it looks at keys.
        before = free_actions(address, "0")
        try:
            place = ObjectStore(f"s3://{BUCKET}/runs?{s3_options(address)}")
            with pytest.raises(StorageError, match=r"cannot be written: access was denied \(.*keys or a role"):
                place.write("a", b"a")
        finally:
            free_actions(address, before)


def test_folders_are_no_object_stores() -> None:
    addresses = ("runs", "/mnt/runs", "file:///mnt/runs", "s3://b/r", "gs://b/r")
    assert [isinstance(open_store(each), ObjectStore) for each in addresses] == [False, False, False, True, True]
    assert issubclass(PlanError, FinesearchError)
