"""A headless Chromium that a test steers through pipes, by the protocol of its developer tools.

Pipes pass from one network namespace to another, so the browser runs beside the natmirror whose page it shows.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import axe_core_python

_ANSWER_TIMEOUT = 60.0  # seconds
_POLL = 0.05
_PIECE_LEN = 1 << 20
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe", "--no-proxy-server", "--force-color-profile=srgb"),
)
_AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
DESKTOP, PHONE = (1440, 900), (360, 740)


class Browser:
    """A browser with one page; a context manager. ``through`` is a command to which its own command is appended, and
    ``directory`` has its profile.

    ``complaints`` has the page's errors, in the order in which they came: exceptions, failed requests, what the
    content security policy forbids.
    """

    def __init__(self, directory: Path, through: Sequence[str] = ()) -> None:
        self._numbers = 0
        self._session: str | None = None
        self._unread = b""
        self.complaints: list[str] = []
        profile = directory / "chromium"
        asked, self._write = os.pipe()
        self._read, told = os.pipe()
        # Chromium reads its descriptor 3, and writes to 4.
        shell = f'exec "$@" 3<&{asked} 4>&{told}'
        command = [
            *through,
            "bash",
            "-c",
            shell,
            "bash",
            _program(),
            *_OPTIONS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        with (directory / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                pass_fds=(asked, told),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory)},
            )
        os.close(asked)
        os.close(told)

    def __enter__(self) -> Self:
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self._call(f"{domain}.enable")
            self.resize(*DESKTOP)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser with all of its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    # The page

    def open(self, url: str) -> None:
        """Load a page, and wait until its files are there."""
        failed = self._call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.wait_for("document.readyState === 'complete'", f"{url} to load")

    def value(self, script: str) -> Any:
        """Return the value of an expression, which may be a promise."""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element; empty where there is none."""
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait_for(self, script: str, what: str, timeout: float = 30.0) -> None:
        """Wait until an expression is true; AssertionError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.value(script):
            assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}; the page:\n{self.text()}"
            time.sleep(_POLL)

    def press(self, key: str, code: int, *, shift: bool = False) -> None:
        """Press a key and release it; ``code`` is its virtual key code."""
        typed = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown" if typed else "rawKeyDown", "keyUp"):
            more = {"text": typed} if typed and kind == "keyDown" else {}
            self._call(
                "Input.dispatchKeyEvent",
                **{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 * shift},
                **more,
            )

    # How it is seen

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Give the page a width and a height in pixels of CSS, each of ``scale`` pixels."""
        is_phone = width < DESKTOP[0] / 2
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )

    def prefer(self, **features: str) -> None:
        """Set media features, such as prefers_color_scheme="dark"."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._call("Emulation.setEmulatedMedia", features=listed)

    def hide(self, *, hidden: bool) -> None:
        """Have the page believe that its tab is, or is not, in the background."""
        state = "hidden" if hidden else "visible"
        self.value(
            f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}});"
            f"Object.defineProperty(document, 'visibilityState', {{value: '{state}', configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    def picture(self, *, whole: bool = False) -> bytes:
        """Return a PNG of what is visible, or of the whole page."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {**size, "scale": 1}} if whole else {}
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)["data"]
        return base64.b64decode(data)

    def violations(self) -> list[str]:
        """Return what axe-core finds against WCAG 2.1 A and AA and its best practices, a line for each element."""
        if not self.value("'axe' in window"):
            self.value(f"{_AXE.read_text(encoding='utf-8')}\n;0")
        found = self.value("axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations)")
        return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    # The protocol: JSON in both directions, each message ended by a NUL

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._numbers += 1
        message: dict[str, Any] = {"id": self._numbers, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        deadline = time.monotonic() + _ANSWER_TIMEOUT
        while (answer := self._next(deadline)).get("id") != self._numbers:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, _PIECE_LEN)
            assert data, "the browser has ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(
                    " ".join(str(one.get("description", one.get("value"))) for one in params["args"])
                )
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())


def _program() -> str:
    found = shutil.which("chromium")
    assert found is not None, "chromium is missing: scripts/setup installs it"
    return found
