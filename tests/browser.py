"""A headless Chromium with one page open, driven over the DevTools protocol: no network, nothing of the user's."""

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any

import websocket

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--window-size=500,600", "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip
_DRAG = (("Moved", 0, False), ("Pressed", 0, True), ("Moved", 0.5, True), ("Moved", 1, True), ("Released", 1, True))
_PATIENCE = 25.0


def installed() -> str | None:
    """The path of a Chromium, None when there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """One page; `logged` are the errors, warnings and blocked requests that it told, `answers` what it evaluated."""

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = [program, *_FLAGS, f"--user-data-dir={self._home.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._number = 0
        self.logged: list[str] = []
        self._socket = websocket.create_connection(self._page(), timeout=_PATIENCE)
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def _page(self) -> str:
        """The address of the one page, as soon as the browser says its port."""
        told, end = Path(self._home.name) / "DevToolsActivePort", monotonic() + _PATIENCE
        while not told.is_file() or not told.read_text().count("\n"):
            if monotonic() > end or self._process.poll() is not None:
                raise RuntimeError("Chromium did not start")
            sleep(0.05)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{told.read_text().split()[0]}/json", timeout=_PATIENCE
        ) as answer:
            return next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask one thing of the browser and wait for its answer, noting what it tells meanwhile."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.logged.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.logged.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.logged.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(
            ("file:", "data:", "blob:")
        ):
            self.logged.append("request: " + told["request"]["url"])

    def open(self, path: Path) -> None:
        """Open a file and wait until plotly has drawn."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && !!document.querySelector('#plot')?._fullLayout")

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, code: str) -> None:
        """Wait until an expression is true."""
        assert self.comes_true(code, _PATIENCE), f"never true: {code}\n{self.logged}"

    def comes_true(self, code: str, seconds: float) -> bool:
        """Whether an expression becomes true in this time."""
        end = monotonic() + seconds
        while not self.run(code):
            if monotonic() > end:
                return False
            sleep(0.05)
        return True

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press the left button, move in a few steps, let go."""
        for kind, share, pressed in _DRAG:
            x, y = (a + share * (b - a) for a, b in zip(start, stop, strict=True))
            button = {"button": "left" if pressed else "none", "buttons": int(pressed), "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])
