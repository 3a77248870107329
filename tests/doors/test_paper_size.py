"""`make reproduce DATA=paper` from start to end, on a small fake of each data set in its published form."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facedistill.runs.record import Record
from writers import encoded_faces, write_celeba, write_folders, write_lfw, write_tsv

PROJECT = Path(__file__).parents[2]
SMALL = [
    *("image.resize=24", "image.crop=20", "model@teacher.model=resnet_small", "model=resnet_small"),
    *("model.width=16", "teacher.model.width=16", "schedule.epochs=1", "logger=csv", "task.batch_size=16"),
    *("data.decode=always", "trainer.score_every=1"),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_all_five_tables_are_trained_and_shown(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    faces = encoded_faces(people=6)
    named = [face._replace(file=f"{number:02d}-FaceId-0.jpg") for number, face in enumerate(faces)]
    write_folders(root / "casia_webface", faces)
    write_tsv(root / "ms_celeb_1m" / "FaceImageCroppedWithAlignment.tsv", named)
    write_celeba(root / "celeba", faces)
    write_lfw(root / "lfw", [face._replace(identity=f"somebody {face.identity}") for face in faces])
    words = ["DATA=paper", f"ROOT={root}", f"ARGS={' '.join([*SMALL, f'cache_dir={tmp_path}/cache'])}"]
    shown = subprocess.run(
        ["make", "--dry-run", "reproduce", *words], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in shown.splitlines() if "facedistill.report" in line)
    script = re.sub(r"\S+ -m facedistill", f"{sys.executable} -m facedistill", line)
    (tmp_path / "here").mkdir()
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path / "here", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    records = [Record.read(folder) for folder in (tmp_path / "here" / "runs").iterdir() if folder.is_dir()]
    found = [record for record in records if record is not None]
    assert {record.group for record in found} >= {"table1", "table2", "table2_second", "table3", "table4", "table5"}
    tested = {record.config.data["name"] for record in found}
    assert tested == {"casia_webface", "ms_celeb_1m", "celeba"}
    scored = [record for record in found if record.config.task.name in ("teacher", "classify", "verify")]
    assert scored
    assert all("pairs" in record.metrics for record in scored)
    for table in sorted((tmp_path / "here" / "reports").rglob("table*.csv")):
        rows = [row.split(",") for row in table.read_text().splitlines()[1:]]
        assert rows, table
    page = next((tmp_path / "here" / "reports").rglob("README.md")).read_text()
    assert "not run" not in page
