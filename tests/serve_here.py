"""`resnetlab serve` in a process of its own, and its pages in headless Chromium."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_browser import CHROMIUM, DESKTOP, FLAGS

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds, of a loaded machine


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium here (tests/debian.sh installs it)")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def served(place: Path | str, *words: str, where: Path | None = None) -> Iterator[SimpleNamespace]:
    """`resnetlab serve` of a folder or URL, in a process of its own; ended by Ctrl-C, and in order.

    where: the folder in which it is started; that of `place` where None.
    """
    command = [sys.executable, "-m", "resnetlab", "serve", str(place), "--port", "0", *words]
    process = subprocess.Popen(
        command, cwd=where or Path(place).parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(3)]
    try:
        url = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{40,}", lines[0])
        assert url and f"ssh -N -L {url[1]}:127.0.0.1:{url[1]}" in lines[1], lines
        yield SimpleNamespace(url=url[0], base=url[0].partition("/?")[0], process=process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (0, "\nended\n")
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


@contextmanager
def opened(browser: Any, url: str, viewport: Any = DESKTOP, heard: Sequence[str] = (), **how: Any) -> Iterator[Any]:
    """A page in a context of its own; fails where the console says anything, or another server is asked.

    heard: words of what the console may say.
    """
    context = browser.new_context(viewport=viewport, **how)
    page, said = context.new_page(), []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("console", lambda message: any(word in message.text for word in heard) or said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request", lambda request: request.url.startswith((url.partition("?")[0], "data:")) or said.append(request.url)
    )
    page.goto(url)
    yield page
    context.close()
    assert said == [], said


def until(true: Callable[[], Any], what: str = "") -> Any:
    """Wait until `true()` is, and give what it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found
