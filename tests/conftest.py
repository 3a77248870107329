"""Caches of their own for the tests, a small set of faces, and short ways to a configuration and to a plan."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, wraps
from pathlib import Path

import numpy as np
import pytest

from facedistill.config.compose import _with_first_seed, compose_config
from facedistill.config.schema import Config
from facedistill.data.faces import FaceSet
from facedistill.data.sources import synthetic
from facedistill.data.synthetic.kernels import Integers
from facedistill.data.synthetic.rendering import Rendered
from facedistill.runs.plan import plan
from facedistill.runs.run import Run
from kinds import Composer, Planner

os.environ["OMP_NUM_THREADS"] = "1"  # torch is not imported yet; two threads on two busy cores wait for each other
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # numbers are those of a CPU; who names a GPU has it tried

LONGEST = ("test_faults.py", "test_ddp.py")


@pytest.hookimpl(trylast=True)  # after those that are not asked for were taken out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: of two workers one takes the first half of the list, the other the second."""
    first, second = ([item for item in items if item.path.name == name] for name in LONGEST)
    rest = [item for item in items if item.path.name not in LONGEST]
    before = max(0, len(items) // 2 - len(first))
    items[:] = [*first, *rest[:before], *second, *rest[before:]]


@pytest.fixture(scope="session", autouse=True)
def _nothing_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"):
            patch.setenv(name, str(home))
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(home / name.lower()))
        for name in (
            "WANDB_API_KEY",
            "WANDB_BASE_URL",
            "WANDB_MODE",
            "WANDB_DIR",
            "WANDB_ENTITY",
            "WANDB_PROJECT",
            "NETRC",
        ):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Hydra takes a third of a second to compose words; most plans here share their ancestors."""
    once = cache(compose_config)

    def composed(words: Sequence[str]) -> Config:
        return once(tuple(words))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facedistill.runs.plan.compose_config", composed)
        yield


@pytest.fixture(scope="session", autouse=True)
def _rendered_once() -> Iterator[None]:
    """Hundreds of runs here train on the same rendered faces, each with a cache of its own."""
    render, draw = synthetic._rendered, synthetic.render_faces
    known: dict[tuple[int, bytes, bytes, int], Rendered] = {}

    @wraps(render)  # under the name that processes beside this one import
    def rendered(seed: int, people: Integers, samples: Integers, *, size: int) -> Rendered:
        key = (seed, people.tobytes(), samples.tobytes(), size)
        if synthetic.render_faces is not draw:  # a test has other faces
            return render(seed, people, samples, size=size)
        if key not in known:
            known[key] = render(seed, people, samples, size=size)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_rendered", rendered)
        yield


@pytest.fixture(autouse=True)
def _of_this_environment() -> None:
    """What is kept of a composition has resolved HOME and the like, which tests change."""
    _with_first_seed.cache_clear()


@pytest.fixture
def compose(tmp_path: Path) -> Composer:
    """Words of the command line → Config, with every path inside of tmp_path."""

    def composed(*words: str) -> Config:
        return compose_config([f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", "logger=csv", *words])

    return composed


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """Words of the command line → Run, as they are read in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def planned(*words: str) -> Run:
        return plan(["logger=csv", *words])

    return planned


@pytest.fixture(scope="session")
def faces() -> FaceSet:
    """4 identities × 8 random images of 24 pixels; two images of each identity are of the test split."""
    count = 32
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    index = np.arange(count)
    images[index, :, :, 0] = (index // 8 * 80)[:, None, None]  # an identity is known by its red
    return FaceSet(images, index // 8, index % 4 == 3, ["ann", "bob", "cid", "dee"])


@pytest.fixture
def marked(faces: FaceSet) -> FaceSet:
    """The faces with everything that a batch may bring."""
    draw, count = np.random.default_rng(1), len(faces.images)
    return replace(
        faces,
        landmarks=draw.uniform(2, 20, (count, 5, 2)).astype(np.float32),
        crop_boxes=draw.uniform(20, 50, (count, 3)).astype(np.float32),
        domains=draw.integers(0, 3, count),
    )


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """The folder of the real faces: lfw, mtfl, celeba5k and teachers, as its README describes them."""
    folder = Path(os.environ.get("FACEDISTILL_FACES") or Path(__file__).parents[2] / "shared" / "faces")
    if not folder.is_dir():
        pytest.skip(f"set FACEDISTILL_FACES=FOLDER to test on real faces: there are none in {folder}")
    return folder
