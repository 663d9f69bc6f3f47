"""The pictures of docs/viewer.md: `segsmith demo` run in a temporary folder, its run opened in Chromium.

    python docs/pictures.py [RUN]

With RUN, that run is shown and nothing is trained. It needs playwright and chromium.
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parent / "pictures"


@contextmanager
def viewed(run: Path) -> Iterator[str]:
    """The address of a viewer of the run, in a process of its own."""
    command = [sys.executable, "-m", "segsmith", "view", str(run), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            said = ""
            while not (found := re.search(r"http://\S+", said)):
                said += viewer.stdout.readline().strip()
            yield found.group()
        finally:
            viewer.terminate()


def telling(run: Path) -> str:
    """The id of an image in the middle of those with foreground, which is neither right nor all wrong."""
    rows = [row for row in csv.DictReader((run / "images.csv").open()) if int(row["true_pixels"]) > 0]
    return rows[len(rows) // 2]["image_id"]


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "demo" / "run"
        if len(sys.argv) == 1:
            subprocess.run([sys.executable, "-m", "segsmith", "demo", str(run.parent)], check=True)
        with viewed(run) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 760})
            for name, fragment in (("gallery", ""), ("image", f"#folder=0&image={telling(run)}")):
                page.goto("about:blank")
                page.goto(f"{address}/{fragment}")
                page.wait_for_load_state("networkidle")
                page.locator("#score-of-all small, .cell").first.wait_for(state="attached")
                page.screenshot(path=PICTURES / f"viewer-{name}.png")
            browser.close()


if __name__ == "__main__":
    main()
