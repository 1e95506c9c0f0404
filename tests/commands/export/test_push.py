"""Exports are pushed to a local server that speaks the hub's API over HTTP, with large files by LFS."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from paths import ROOT

PUSH = """
import sys
from pathlib import Path
from finesearch.commands.export.push import check_push, push
from finesearch.errors import FinesearchError
try:
    check_push(sys.argv[2])
    print(push(Path(sys.argv[1]), sys.argv[2], public=sys.argv[3] == "public"))
except FinesearchError as error:
    print(type(error).__name__, error)
"""


class Hub(ThreadingHTTPServer):
    """Repositories with their files, as the hub keeps them; ``refuses``: what it answers instead of making one."""

    def __init__(self, refuses: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuses = refuses
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str | None] = set()
        self.large: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        repo = "/".join(path.split("/")[3:5])
        if repo not in self.server.repos:
            self._answer({"error": "Repository not found"}, 404)
        elif "/tree/" in path:
            files = self.server.repos[repo]
            rows = [{"type": "file", "path": name, "size": len(text), "oid": "0" * 40} for name, text in files.items()]
            self._answer(rows)
        else:
            names = [{"rfilename": name} for name in self.server.repos[repo]]
            self._answer({"id": repo, "sha": "0" * 40, "siblings": names, "private": True, "tags": []})

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._answer({})

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        path, body = self.path.partition("?")[0], self._body()
        if path == "/api/repos/create":
            if self.server.refuses is not None:
                self._answer({"error": "You may not do that"}, self.server.refuses)
                return
            asked = json.loads(body)
            repo = f"{asked.get('organization')}/{asked['name']}"
            if repo in self.server.repos:
                self._answer({"url": f"{self.server.address}/{repo}"}, 409)
                return
            self.server.repos[repo] = {".gitattributes": b""}
            self.server.private[repo] = asked.get("private", asked.get("visibility") == "private")
            self._answer({"url": f"{self.server.address}/{repo}"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["size"] > 10_000 else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": modes})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.address}/large/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            repo = "/".join(path.split("/")[3:5])
            files = self.server.repos[repo]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            self._answer(
                {"commitUrl": f"{self.server.address}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}
            )
        else:
            self._answer({"error": f"no such address: {path}"}, 404)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def pushed(address: str, folder: Path, repo: str, visibility: str = "private", **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {
        "PYTHONPATH": str(ROOT / "platform"),
        "HF_ENDPOINT": address,
        "HF_TOKEN": "hf_of_a_test",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder.parent / "hub"),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder), repo, visibility],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (folder / ".eval_results" / "finesearch.yaml").write_text("[]\n")
    (folder / "model.safetensors").write_bytes(os.urandom(30_000))
    return folder


def test_a_push_makes_a_repository_and_replaces_what_it_held(export: Path) -> None:
    with serving(Hub()) as hub:
        assert pushed(hub.address, export, "ada/reviews") == f"{hub.address}/ada/reviews"
        files = hub.repos["ada/reviews"]
        assert set(files) == {".gitattributes", "README.md", ".eval_results/finesearch.yaml", "model.safetensors"}
        weights = (export / "model.safetensors").read_bytes()
        assert hashlib.sha256(files["model.safetensors"]).digest() == hashlib.sha256(weights).digest()
        assert hub.private["ada/reviews"], "for its owner alone"
        assert hub.tokens == {"Bearer hf_of_a_test"}
        (export / "model.safetensors").rename(export / "adapter_model.safetensors")
        pushed(hub.address, export, "ada/reviews", "public")
        assert "model.safetensors" not in files, "left from before, it would be loaded"
        assert files["adapter_model.safetensors"] == weights
        assert hub.private["ada/reviews"], "one that is there stays as it is"
        pushed(hub.address, export, "ada/open", "public")
        assert not hub.private["ada/open"]


def test_a_hub_that_refuses_is_told_and_the_export_stays(export: Path) -> None:
    with serving(Hub(refuses=403)) as hub:
        said = pushed(hub.address, export, "someone/else")
    assert said.startswith("StorageError --push someone/else: the hub did not take it: ")
    assert said.endswith(f"The export is in {export}; `hf upload someone/else {export}` tries again.")
    assert "403" in said
    gone = pushed(hub.address, export, "ada/reviews")
    assert gone.startswith("StorageError --push ada/reviews: the hub did not take it: ")


@pytest.mark.parametrize(
    ("repo", "variables", "expected"),
    [
        ("a/b/c", {}, "InputError --push a/b/c: expected a repository such as ada/reviews."),
        ("ada/reviews", {"HF_HUB_OFFLINE": "1"}, "InputError --push ada/reviews: HF_HUB_OFFLINE is set."),
        ("ada/reviews", {"HF_TOKEN": ""}, "InputError --push ada/reviews: the hub asks who you are."),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_exported(
    repo: str, variables: dict[str, str], expected: str, export: Path
) -> None:
    assert pushed("http://127.0.0.1:9", export, repo, **variables).startswith(expected)
