"""A real browser without a window, over the pipe of its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

START = "import os, sys; a, b, *words = sys.argv[1:]; os.dup2(int(a), 3); os.dup2(int(b), 4); os.execv(words[0], words)"


class Browser:
    """Opens one page at a time; ``complaints`` are errors and warnings of its console and of loading it."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        (reads, self._write), (self._read, writes) = os.pipe(), os.pipe()
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        # the protocol speaks on the file descriptors 3 and 4; ours are moved out of their way first
        given = [fcntl(descriptor, F_DUPFD, 10) for descriptor in (reads, writes)]
        start = [sys.executable, "-c", START, *map(str, given), CHROMIUM, "--remote-debugging-pipe", *words]
        self._process = subprocess.Popen(start, pass_fds=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for descriptor in (reads, writes, *given):
            os.close(descriptor)
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **words: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": words}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                return reply["result"]  # type: ignore[no-any-return]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(text)
        words = reply.get("params", {})
        match reply.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(words["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled" if words["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(words["args"]))
            case "Log.entryAdded" if words["entry"]["level"] in ("error", "warning"):
                self.complaints.append(words["entry"]["text"])
            case "Network.requestWillBeSent" if not words["request"]["url"].startswith(("file:", "data:", "about:")):
                self.complaints.append(f"asks for {words['request']['url']}")
        return reply

    def open(self, page: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Show a file at a width, in light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression: str) -> Any:
        """The value of some JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, as from a keyboard."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, whole: bool = False) -> bytes:
        """A PNG of the visible part, or of the whole page."""
        shown = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        return base64.b64decode(shown)
