"""Make `docs/report.png`, the picture in the README, and `docs/serve.png`, that of docs/serve.md: the head of a report,
and the study's page in `resnetlab serve`. Needs chromium and playwright (`.[test]`).

python docs/make_pictures.py results/reference/default
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
WIDTH = 1080  # pixels


def report(browser: Browser, place: Path) -> bytes:
    """The head of the report, down to the end of its first figure."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=1.5)
    page.goto((place / "report.html").resolve().as_uri())
    box = page.locator("#answer figure.wide").bounding_box()
    assert box is not None
    return page.screenshot(
        full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16}
    )


def study_page(browser: Browser, place: Path) -> bytes:
    """The study's page, down to the end of its curves."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=1.5)
    with served(place) as url:
        page.goto(url)
        page.goto(f"{url.partition('/?')[0]}/study/{place.name}")
        box = page.locator("#curves svg").first.bounding_box()
        assert box is not None
        return page.screenshot(
            full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 16}
        )


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The URL of a server of the folder, which ends with this."""
    command = [sys.executable, "-m", "resnetlab", "serve", str(place), "--port", "0"]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = re.search(r"http://\S+", process.stdout.readline())
            assert url is not None
            yield url[0]
        finally:
            process.send_signal(signal.SIGINT)


def main(place: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, shoot in (("report", report), ("serve", study_page)):
            image = Image.open(io.BytesIO(shoot(browser, place))).convert("RGB")
            image.quantize(128, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
