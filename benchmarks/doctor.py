"""The doctor and a plan on a set of folders as large as CASIA-WebFace.

    python benchmarks/doctor.py

494,000 images in 4,940 folders: hard links to ten copies of a rendered face of 160 pixels, in a temporary folder. Each
command runs once, as a process of its own, start included. The system has the files in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from facedistill.data.synthetic import render_faces

FOLDERS, IMAGES, COPIES = 4940, 100, 10


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        for copy in range(COPIES):  # a file can't have half a million links everywhere
            Image.fromarray(render_faces(0, [0], [copy], 160).images[0]).save(top / f"{copy}.jpg", quality=90)
        for number in range(FOLDERS):
            folder = top / "faces" / f"{number:07d}"
            folder.mkdir(parents=True)
            for image in range(IMAGES):
                os.link(top / f"{number % COPIES}.jpg", folder / f"{image:03d}.jpg")
        words = ["data=casia_webface", f"data.root={top}/faces", f"cache_dir={top}/cache", f"runs_dir={top}/runs"]
        print(f"| {FOLDERS * IMAGES:,} images in {FOLDERS:,} folders | seconds |\n|---|---|")
        for name, command in {
            "the doctor": ["facedistill.data", *words, f"sheet={top}/sheet.png"],
            "a plan": ["facedistill.train", *words, "rate=8", "init=full", "target=soft", "plan=true"],
        }.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
            print(f"| {name} | {time.perf_counter() - start:.1f} |")


if __name__ == "__main__":
    main()
