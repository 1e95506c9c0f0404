"""Headless Chromium, driven over its DevTools protocol: pages that need a cookie, clicks of no one, screenshots."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--remote-debugging-port=0", "--window-size=1400,1000",
]  # fmt: skip


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._asked = socket, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer; events on the way are dropped."""
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": parameters})
        while True:
            said = json.loads(await self._socket.receive_str(timeout=60))
            if said.get("id") == self._asked:
                assert "error" not in said, said
                return said["result"]

    async def text(self) -> str:
        """What the page shows."""
        found = await self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return str(found["result"].get("value", ""))

    async def show(self, address: str, *expected: str, timeout_s: float = 60.0) -> str:
        """Go to an address and wait until all of ``expected`` stand on the page; its text."""
        await self.call("Page.navigate", url="about:blank")  # addresses that differ behind # alone load nothing anew
        await self.call("Page.navigate", url=address)
        text = ""
        for _ in range(int(timeout_s / 0.5)):
            await asyncio.sleep(0.5)
            text = await self.text()
            if all(word in text for word in expected):
                return text
        raise AssertionError(f"{address}: {expected} did not all appear within {timeout_s:.0f} s:\n{text}")

    async def keep_picture(self, path: Path) -> None:
        """Write a PNG of what the page shows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))


@asynccontextmanager
async def page(browser: str, profile: Path, cookies: dict[str, str], address: str) -> AsyncIterator[Page]:
    """A tab of a browser of its own, which sends ``cookies`` to the host of ``address``."""
    process = subprocess.Popen(
        [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = profile / "DevToolsActivePort"
        for _ in range(300):
            if port_file.exists() and port_file.read_text().strip():
                break
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                tabs = await answer.json()
            tab = next(tab for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened = Page(socket)
                for name, value in cookies.items():
                    await opened.call("Network.setCookie", name=name, value=value, url=address)
                yield opened
    finally:
        process.kill()
        process.wait()
