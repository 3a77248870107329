"""Teachers by role: which ancestors a task has besides the chain's own, which words reach them, and files instead."""

from pathlib import Path

import pytest

from facedistill.errors import ConfigError, FacedistillError, WeightsError
from facedistill.runs.plan import check_tree
from facedistill.runs.run import Run, WeightsFile
from kinds import Planner

SPOOF = ("task=spoof", "data=synthetic_spoof", "data.num_people=10", "rate=8")
BOTH = (*SPOOF, "target=two_teachers")


def parent(run: Run, role: str) -> Run:
    found = run.parents[role]
    assert isinstance(found, Run)
    return found


def test_a_student_alone_stands_on_nothing_and_a_term_on_the_teacher_it_comes_from(planned: Planner) -> None:
    assert planned(*SPOOF).parents == {}
    assert planned(*BOTH).parents.keys() == {"perceptual", "generative"}
    for one, other in (("perceptual", "generative"), ("generative", "perceptual")):
        assert planned(*BOTH, f"target.terms.{one}.weight=0").parents.keys() == {other}


def test_each_is_made_by_the_choices_that_its_role_says(planned: Planner) -> None:
    run = planned(*BOTH, "seed=3", "teacher.seed=5", "image.crop=16", "target.views=live", "task.options.alignment=2")
    perceptual, generative = (parent(run, role).config for role in ("perceptual", "generative"))
    assert (perceptual.task.name, perceptual.rate, perceptual.data["name"]) == ("teacher", 1, "synthetic")
    assert (generative.task.name, generative.rate, generative.data) == ("reconstruct", 1, run.config.data)
    for config in (perceptual, generative):
        assert (config.seed, config.image.crop, config.target.active()) == (5, 16, {})
        assert config.network == run.config.teacher.model
    assert parent(run, "perceptual").identity == planned("task=teacher", "seed=5", "image.crop=16").identity
    assert {parent(run, role).role for role in run.parents} == {"teacher"}


def test_domains_held_out_share_the_recognizer_and_each_has_its_generative_teacher(planned: Planner) -> None:
    one, two = (planned(*BOTH, f"data.held_out={name}") for name in ("office", "webcam"))
    assert one.parents["perceptual"].identity == two.parents["perceptual"].identity
    assert one.parents["generative"].identity != two.parents["generative"].identity
    assert one.identity != two.identity


def test_the_recognizer_is_trained_on_the_faces_that_are_named_for_it(planned: Planner) -> None:
    words = ("data@recognition=synthetic_large", "recognition.num_identities=7")
    run = planned(*BOTH, *words)
    assert parent(run, "perceptual").config.data["name"] == "synthetic_large"
    assert parent(run, "perceptual").config.data["num_identities"] == 7
    assert parent(run, "generative").identity == parent(planned(*BOTH), "generative").identity


def test_a_file_takes_the_place_of_a_teacher(planned: Planner, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"weights")
    run = planned(*BOTH, f"+teachers.perceptual.weights={file}")
    assert isinstance(run.parents["perceptual"], WeightsFile)
    assert parent(run, "generative").identity == parent(planned(*BOTH), "generative").identity
    by_chain = planned(*BOTH, f"teacher.weights={file}").parents["perceptual"]
    assert isinstance(by_chain, WeightsFile)
    assert by_chain.weights == file
    with pytest.raises(WeightsError, match="gone"):
        planned(*BOTH, f"+teachers.generative.weights={tmp_path}/gone.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=soft"], r"target\.terms\.soft\.from=auto: choices for task=spoof are perceptual, generative"),
        (["target=hidden", "target.terms.hidden.from=teacher"], "choices for task=spoof are perceptual, generative"),
        (["target=two_teachers", "target.terms.perceptual.compares=logits"], "the teachers of task=spoof have other"),
        (["task=classify", "data=synthetic", "target=two_teachers"], "task=classify are auto, teacher, recognizer"),
        (["data=synthetic"], r"needs liveness, which data=synthetic does not give\. Choices: data=synthetic_spoof"),
        (["task=classify"], "task=classify needs identities, which data=synthetic_spoof does not give"),
        (["init=full"], r"it can't start task=spoof\. Choices for task=spoof: init=scratch"),
        (["data.held_out=mars"], r"data\.held_out=mars is none of data\.domains"),
        (["data.domains=[office,webcam]"], "fewer than two domains to train on"),
        (["task=reconstruct", "rate=2"], "rate=2 can't be a teacher"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_wrong_words_are_refused(planned: Planner, words: list[str], said: str) -> None:
    own = [word for word in SPOOF if not (word.startswith("data.") and "data=synthetic" in words)]
    with pytest.raises(FacedistillError, match=said):
        planned(*own, *words)


def test_options_that_do_not_go_together_are_refused_before_anything_is_trained(planned: Planner) -> None:
    with pytest.raises(ConfigError, match=r"no bank can hold: target\.views=live"):
        check_tree(planned(*BOTH, "task.options.alignment=4"))
    check_tree(planned(*BOTH, "target.views=live", "task.options.alignment=4"))


def test_a_backbone_for_the_recognizer_is_none_of_the_generative_teacher(planned: Planner, tmp_path: Path) -> None:
    file = tmp_path / "backbone.pt"
    file.write_bytes(b"weights")
    run = planned(*BOTH, f"teacher.backbone={file}")
    assert parent(run, "perceptual").parents.keys() == {"init"}
    assert parent(run, "generative").parents == {}
