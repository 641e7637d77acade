"""Makes the picture of a report that the docs show, from a run folder, with headless Chromium.

    PYTHONPATH=python python benchmarks/report_screenshot.py python/tests/recorded/fake-server docs/report.png

The folder itself stays as it is. Exit codes: 0 done, 3 Chromium is missing, 4 it made no picture.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mlperf_llama import report
from mlperf_llama.errors import EXIT_BROKE, EXIT_MISSING, EXIT_OK
from mlperf_llama.records.run_folder import RunFolder

WIDTH, HEIGHT = 1280, 1600
LIMIT_S = 60


def take(chromium: str, page: Path, picture: Path) -> bool:
    """Whether Chromium made the picture."""
    picture.unlink(missing_ok=True)
    # Its own flags; the sandbox cannot start as root, and the page is ours.
    flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
    size = f"--window-size={WIDTH},{HEIGHT}"
    command = [chromium, *flags, size, f"--screenshot={picture.absolute()}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
    return picture.is_file()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("expected the program chromium, found none: apt-get install chromium", file=sys.stderr)
        return EXIT_MISSING
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / arguments.run.resolve().name
        shutil.copytree(arguments.run, folder)
        report.write(RunFolder.open(folder))
        if not take(chromium, folder / "report.html", arguments.picture):
            print(f"{arguments.picture}: expected a picture from {chromium}, found none", file=sys.stderr)
            return EXIT_BROKE
    print(arguments.picture)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
