"""What is in the identity of a run and what is not: every leaf of the configuration is declared, and behaves so."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import pytest

from facedistill.config.build import KINDS
from facedistill.config.choices import nodes
from facedistill.config.compose import compose_config
from facedistill.config.schema import Config
from facedistill.models.families import resnet
from facedistill.runs.identity import EXCLUDED, INCLUDED, PRESENTATION, numbers_of
from facedistill.runs.plan import plan
from facedistill.runs.run import Run

Planner = Callable[..., Run]


def leaves(kind: type[Any], path: str = "") -> Iterator[str]:
    """The paths of every leaf of the schema; ``*`` for the keys of a mapping."""
    for name, hint in get_type_hints(kind).items():
        inner = next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)
        is_mapping = "dict" in str(hint) and not (isinstance(hint, type) and dataclasses.is_dataclass(hint))
        if is_mapping:
            yield f"{path}{name}.*"
        elif isinstance(inner, type):
            yield from leaves(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def declared(path: str) -> list[str]:
    """In which of the two lists a path stands."""
    found = []
    for title, paths in (("included", INCLUDED), ("excluded", EXCLUDED)):
        patterns = (re.escape(pattern).replace(r"\*", ".*") for pattern in paths)
        found += [title] if any(re.fullmatch(pattern, path) for pattern in patterns) else []
    return found


LEAVES = sorted(leaves(Config))


def test_there_are_leaves() -> None:
    assert len(LEAVES) > 50
    assert {"task.options.*", "trainer.threads", "seed", "target.terms.*", "image.crop"} <= set(LEAVES)


@pytest.mark.parametrize("path", LEAVES)
def test_every_leaf_is_declared_once(path: str) -> None:
    assert len(declared(path)) == 1, f"{path}: add it to INCLUDED or to EXCLUDED in runs/identity.py"


def test_nothing_else_is_declared() -> None:
    for pattern in (*INCLUDED, *EXCLUDED):
        regex = re.escape(pattern).replace(r"\*", ".*")
        assert any(re.fullmatch(regex, path) for path in LEAVES), pattern


def test_every_key_of_a_yaml_that_is_only_shown_is_known_as_such(planned: Planner) -> None:
    """Keys of open nodes are the arguments of their types, or presentation."""
    known = {"type", "defaults", *PRESENTATION}
    for name, node in nodes("model").items():
        assert node.keys() & set(PRESENTATION) <= {"name", "rates"}, name
        assert {"type"} < numbers_of(node).keys() or name == "timm"
    assert known >= {"name", "rates", "gives", "published", "compares", "needs"}


CELL = ("rate=8", "init=full", "target=soft")


@pytest.mark.parametrize(
    "words",
    [
        ["target.terms.hidden.map=random"],  # a term that is not active
        ["model.name=another"],
        ["teacher.model.name=another"],
        ["model.rates=[1,2,4,8,16]"],
        ["teacher.model.rates=[1]"],
        ["target.terms.soft.compares=logits"],
        ["data.name=mine"],
        ["task.metric=pairs"],
        ["init.starts=elsewhere"],
        ["trainer.devices=2", "trainer.num_nodes=1"],
        ["trainer.devices=2", "trainer.split_classes=true"],
        ["trainer.score_every=3"],
        ["group=a", "cells=3", "runs_dir=r", "cache_dir=c"],
    ],
    ids=" ".join,
)
def test_what_is_only_shown_or_says_where_changes_no_identity(planned: Planner, words: list[str]) -> None:
    assert planned(*CELL, *words).identity == planned(*CELL).identity


def test_moving_a_class_changes_no_identity(planned: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    before, moved = planned(*CELL), KINDS["source"]  # a source is asked for its identity
    monkeypatch.setattr(resnet.ResNetBackbone, "__module__", "elsewhere.models")
    for kind in KINDS:
        monkeypatch.setitem(KINDS, kind, KINDS[kind]._replace(package=f"elsewhere.{kind}", base_module="elsewhere"))
    monkeypatch.setitem(KINDS, "source", moved)
    assert planned(*CELL).identity == before.identity
    text = str(before.recipe)
    assert "facedistill." not in text
    assert "_target_" not in text
    assert "resnet_small" not in text, "a displayed name"
    assert before.recipe["model"] == {
        "type": "resnet",
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "bias": False,
        "width": 32,
    }


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["task=verify"], "task.options.margin=0.3"),
        (["task=verify"], "task.softmax=true"),
        (["task=verify"], "task.images_per_identity=2"),
        (["target=hidden"], "target.terms.hidden.reduction=sum"),
        (["target=hidden"], "target.terms.hidden.map=random"),
        (["target=soft"], "trainer.threads=2"),
        ([], "augment=recognizer"),
        (["model=timm", "model.name=resnet18", "rate=1", "task=classify"], "model.name=resnet34"),
        (["model=timm", "model.name=resnet18", "rate=1", "task=classify"], "model.features=64"),
        (["task=verify", "task.softmax=true", "target=soft"], "target.terms.soft.from=recognizer"),
        (["learning_rates.classification.random=[0.01]"], "schedule.optimizer=adamw"),
        (["learning_rates.classification.random=[0.01]"], "schedule.shape=cosine"),
        (["learning_rates.classification.random=[0.01]", "schedule.shape=cosine"], "schedule.warmup=0.1"),
    ],
    ids=str,
)
def test_what_changes_the_result_changes_the_identity(planned: Planner, words: list[str], change: str) -> None:
    assert planned(*words).identity != planned(*words, change).identity


def test_the_recipe_of_the_paper_has_no_word_of_what_came_later(planned: Planner) -> None:
    """The runs that exist keep their identities."""
    recipe = planned(*CELL).recipe
    assert recipe["optimizer"] == {"momentum": 0.9, "weight_decay": 5e-4}
    assert recipe.keys() == {
        *("version", "task", "data", "image", "model", "rate", "teacher_model", "init", "target", "bank"),
        *("learning_rates", "optimizer", "precision", "threads", "seed", "parents"),
    }


def test_a_field_that_nobody_declares_is_noticed() -> None:
    assert declared("task.new_field") == []
    assert declared("trainer.colour") == []


def test_the_words_of_a_recipe_are_short(planned: Planner) -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for item in value.values():
                yield from texts(item)
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    run = plan(["task=verify", "rate=8", "init=distill", "target=soft", "task.softmax=true"])
    assert all(re.fullmatch(r"[a-z0-9_-]{1,12}", text) for text in texts(run.recipe)), run.recipe
    assert compose_config([]).target.active() == {}
