"""A real browser, headless, and an application for it to open: for tests of pages that act."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

CHROMIUM = shutil.which("chromium")
DESKTOP, PHONE = (1280, 800), (390, 844)
"""Width and height of a window."""


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of an application that listens in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "it did not start"
            thread.join(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser, as playwright drives it; tests skip where none is installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is part of the group dev")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[Callable[..., Any]]:
    """`open_page(address, PHONE)` is a page in a window of that size. No page may say anything on its console,
    fail in a script, or ask another host for anything."""
    wrong: list[str] = []
    contexts = []

    def opened(address: str, window: tuple[int, int] = DESKTOP, **options: Any) -> Any:
        width, height = window
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text} {message.location['url']}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        host = address.split("/")[2]
        page.on("request", lambda request: _own(request.url, host) or wrong.append(f"asked {request.url}"))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def _own(url: str, host: str) -> bool:
    return url.startswith(("data:", "blob:")) or url.split("/")[2] == host


Spots = list[tuple[float, float]]
"""Of fingers, in px of the window."""


def pinch(page: Any, begin: Spots, end: Spots, steps: int = 5) -> None:
    """Two fingers that go down, move evenly and come up, as the browser has them of a touch screen."""
    session = page.context.new_cdp_session(page)

    def send(kind: str, fingers: Spots) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", begin)
    for step in range(1, steps + 1):
        share = step / steps
        pairs = zip(begin, end, strict=True)
        send("touchMove", [(x + share * (to_x - x), y + share * (to_y - y)) for (x, y), (to_x, to_y) in pairs])
    send("touchEnd", [])
    session.detach()


def accessibility_faults(page: Any) -> list[str]:
    """Serious and critical faults that axe-core finds in a page as it stands, each with the element it is about."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is part of the group dev")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def shot(page: Any, to: Path) -> Path:
    """A picture of what a window shows."""
    page.screenshot(path=str(to))
    return to
