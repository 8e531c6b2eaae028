"""A headless chromium that a test drives: open an address, press keys, run scripts, take pictures.

`browser.py` is enough for a page that one script can judge. This one has windows as narrow as
phones, dark mode, real keys, and the requests and messages of the whole visit.
"""

import base64
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.pages.browser import BROWSER

_SECONDS = 60


class Page:
    """One page of a browser that listens on a pipe (Chrome's DevTools protocol).

    Attributes:
        requests: addresses that the page asked for.
        messages: what it wrote to the console, and errors that no script caught.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers, self._buffer, self._number = commands, answers, b"", 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(answers, selectors.EVENT_READ)
        self._session: str | None = None
        self._is_loaded = False
        self.requests: list[str] = []
        self.messages: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def open(self, address: str, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Load a page in a window of this size."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._is_loaded = False
        self.send("Page.navigate", url=address)
        while not self._is_loaded:
            self._note(self._message())

    def resize(self, width: int, height: int = 900) -> None:
        """Change the size of the window."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; an element counts as false."""
        end = time.monotonic() + _SECONDS
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def press(self, key: str, text: str = "") -> None:
        """Press a key as a person does, such as `Tab`, `Enter` (text "\\r") or ` `."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            words = {"text": text} if text and kind == "keyDown" else {}
            code = codes.get(key, 0)
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **words
            )

    def move_to(self, x: float, y: float, click: bool = False) -> None:
        """Move the mouse to a place in the window, and click there."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an `input` of type file."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self, path: Path) -> None:
        """Write what the window shows to a PNG file."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, (method, message["error"])
        return dict(message["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert self._selector.select(_SECONDS), "the browser does not answer"
            data = os.read(self._answers, 2**20)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        """Remember a request or a message of the page."""
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Page.loadEventFired":
            self._is_loaded = True
        elif kind == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif kind == "Runtime.consoleAPICalled":
            self.messages.append(str([part.get("value") for part in params["args"]]))
        elif kind == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif kind == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile is in a folder."""
    read_by_browser, commands = os.pipe()
    answers, written_by_browser = os.pipe()
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    words += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
    # the protocol's pipes are 3 and 4 in the browser; sh knows no numbers above 9
    shell = ["bash", "-c", f'exec "$@" 3<&{read_by_browser} 4>&{written_by_browser}', "bash"]
    process = subprocess.Popen(
        [*shell, *map(str, words)],
        stderr=subprocess.DEVNULL,
        pass_fds=(read_by_browser, written_by_browser),
    )
    os.close(read_by_browser)
    os.close(written_by_browser)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)
        process.terminate()
        process.wait(20)
        os.close(answers)
