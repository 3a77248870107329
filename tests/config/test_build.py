"""The registry: what a configuration may name, what is built from it, and what is refused without being called."""

import subprocess
import sys
from pathlib import Path

import pytest

from facedistill.config.build import KINDS, build, check_buildable, find_type
from facedistill.config.choices import nodes
from facedistill.data.sources.source import build_source
from facedistill.data.sources.synthetic import SyntheticFaces
from facedistill.distill.targets.soft import SoftTarget
from facedistill.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        *("os", "builtins", "nothing", "", ".", "..build", "soft.os", "soft.SoftTarget", "Soft", "__init__", "soft\n"),
        *("facedistill.distill.targets.soft", "source", "photo_source", "base", "assemble", "gather", "families"),
        *(None, 3, ["soft"], {"name": "soft"}),
    ],
)
def test_what_is_not_registered_is_refused(kind: str, name: object) -> None:
    with pytest.raises(ConfigError, match=rf"is not a registered {kind}. Choices: ") as refusal:
        build(kind, {"type": name})
    assert {"source": "celeba", "model": "resnet", "target": "soft", "task": "verify", "format": "onnx"}[kind] in str(
        refusal.value
    )


@pytest.mark.parametrize("target", ["builtins.open", "os.system", "facedistill.data.__main__.main", "None"])
def test_an_import_path_is_never_called(target: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ({}, {"type": "soft"}):
        with pytest.raises(ConfigError, match=r"_target_=.* is not called: .*type=NAME"):
            build("target", {**name, "_target_": target, "file": str(victim), "command": f"rmdir {victim}"})
    assert victim.is_dir()


def test_every_choice_that_is_shipped_names_a_registered_type() -> None:
    for group, kind in (("model", "model"), ("task", "task"), ("data", "source")):
        for name, node in nodes(group).items():
            if "type" in node:
                assert find_type(kind, node).__module__ == f"{KINDS[kind].package}.{node['type']}", name
    for name, node in nodes("target").items():
        for term in node.get("terms", {}).values():
            assert find_type("target", term), name


def test_a_type_gets_every_key_and_descriptions_only_where_it_takes_them() -> None:
    node = {
        "type": "synthetic",
        "name": "mine",
        "gives": ["identities"],
        "num_identities": 3,
        "images_per_identity": 4,
        "pairs_per_fold": 2,
        "seed": 5,
    }
    assert build("source", node) == SyntheticFaces("mine", 3, 4, 2, 5)
    term = {"type": "soft", "name": "not an argument of it", "compares": "logits", "from": "auto", "weight": 0.5}
    soft = build("target", term, student_width=2, teacher_width=2, tau=4.0, tau_squared=False)
    assert isinstance(soft, SoftTarget)
    assert (soft.weight, soft.tau, soft.scale) == (0.5, 4.0, 1.0)


@pytest.mark.parametrize(("extra", "said"), [({"colour": 1, "reduction": "sum"}, "colour"), ({}, "reduction")])
def test_an_unknown_or_missing_argument_names_what_is_taken(extra: dict[str, object], said: str) -> None:
    node = {"type": "hidden", "weight": 1.0, **extra}
    for call in (build, check_buildable):
        with pytest.raises(ConfigError) as refusal:
            call("target", node, student_width=1, teacher_width=1)
        assert said in str(refusal.value)
        assert "takes weight, student_width, teacher_width, reduction" in str(refusal.value)


def test_checking_does_not_build() -> None:
    node = {"type": "synthetic", "name": "x", "num_identities": -1}
    rest = {"images_per_identity": 4, "pairs_per_fold": 2, "seed": 5}
    check_buildable("source", node, **rest)
    with pytest.raises(DataError):
        build_source({**node, **rest})


def installed(folder: Path, entry_points: str, **modules: str) -> dict[str, str]:
    """A package as pip would install it, and the environment in which it is found."""
    about = folder / "faces_plus-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faces-plus\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    return {"PYTHONPATH": str(folder), "PATH": ""}


def in_its_environment(environment: dict[str, str], code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "points_to", "said"),
    [
        ("soft", "mine:Thing", "takes the name of a source of this package"),
        ("mine", "mine:Thing", "is not a subclass of Source"),
        ("mine", "mine:nothing", "can't be imported"),
        ("mine", "gone:Thing", "can't be imported"),
    ],
)
def test_an_entry_point_that_is_no_type_is_refused(tmp_path: Path, name: str, points_to: str, said: str) -> None:
    name = "celeba" if name == "soft" else name
    environment = installed(tmp_path, f"[facedistill.source]\n{name} = {points_to}\n", mine="class Thing: pass\n")
    code = (
        "from facedistill.config.build import find_type\n"
        "from facedistill.errors import ConfigError\n"
        f"try: find_type('source', {{'type': '{name}'}})\n"
        "except ConfigError as error: print(error)"
    )
    assert said in in_its_environment(environment, code)
