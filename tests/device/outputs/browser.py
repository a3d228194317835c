"""A headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver)."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "needs the system packages chromium and chromium-driver"
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """One window. Use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        """Start; `folder` is for the browser's own files."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._root = f"http://127.0.0.1:{port}"
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={folder}"], "binary": CHROMIUM}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        until = time.monotonic() + 30
        while True:
            try:
                made = self._call("POST", "/session", capabilities={"alwaysMatch": capabilities})
                break
            except OSError:
                if time.monotonic() > until or self._driver.poll() is not None:
                    self._driver.kill()
                    raise
                time.sleep(0.1)
        self._root += f"/session/{made['sessionId']}"

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def open(self, url: str) -> None:
        """Load a page, with an empty console."""
        self._call("POST", "/url", url="about:blank")
        self.console()
        self._call("POST", "/url", url=url)

    @contextmanager
    def window(self) -> Iterator[None]:
        """Another window, closed again in the end."""
        before = self._call("GET", "/window")
        made = self._call("POST", "/window/new", type="window")
        self._call("POST", "/window", handle=made["handle"])
        try:
            yield
        finally:
            self._call("DELETE", "/window")
            self._call("POST", "/window", handle=before)

    def run(self, script: str) -> Any:
        """What `script`, the body of a function, returns."""
        return self._call("POST", "/execute/sync", script=script, args=[])

    def until(self, condition: str, seconds: float = 30) -> Any:
        """Wait until the expression `condition` is true, and give its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds:g} s: {condition}\n{self.text()}")
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """What stands on the page."""
        return str(self.run("return document.body.innerText"))

    def console(self) -> list[str]:
        """What the page, or the browser about it, wrote since the last call."""
        lines = self._call("POST", "/se/log", type="browser")
        return [f"{line['level']}: {line['message']}" for line in lines]

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Make the window so large, in a colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._tell("Emulation.setDeviceMetricsOverride", size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._tell("Emulation.setEmulatedMedia", {"features": media})

    def offline(self, off: bool) -> None:
        """Cut the network, or give it back."""
        self._tell("Network.enable", {})
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self._tell("Network.emulateNetworkConditions", {"offline": off, **speed})

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        made = self._tell("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(made["data"]))

    def _tell(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def _call(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._root + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:  # of a script, mostly
            raise AssertionError(json.load(error)["value"]["message"]) from error
