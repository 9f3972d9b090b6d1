"""Make `docs/report.png`, the picture in the README, from a report; needs chromium and playwright (`.[test]`).

python docs/make_pictures.py results/reference/default/report.html
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parent / "report.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


def main(report: Path) -> None:
    """The head of the report, down to the end of its first figure."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1080, "height": 900}, device_scale_factor=1.5)
        page.goto(report.resolve().as_uri())
        box = page.locator("#answer figure.wide").bounding_box()
        clip = {"x": 0, "y": 0, "width": 1080, "height": box["y"] + box["height"] + 16}
        shot = page.screenshot(full_page=True, clip=clip)
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(OUT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
