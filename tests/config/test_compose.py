"""What is refused before anything runs, the paper's set-up, and what may be built from a configuration."""

import dataclasses
import math
import re
import subprocess
import sys

import pytest
from hydra import compose as hydra_compose

from every_target import TARGETS
from facedistill.config.choices import data_with, nodes
from facedistill.config.compose import checked, compose_config, understood
from facedistill.errors import ConfigError, DataError, FacedistillError
from facedistill.runs.plan import check_tree, plan

REFUSED = [
    (
        "init=distill",
        ["init=distill", "alignment or verification", "task=classify", "init=scratch", "init=fitnet", "init=full"],
    ),
    ("task=teacher init=full", ["init=full", "task=teacher", "init=scratch"]),
    ("rate=3", ["rate=3", "resnet_small", "rate=1", "rate=2", "rate=4", "rate=8"]),
    ("task=teacher rate=2", ["rate=2", "rate=1", "task=classify rate=2 init=scratch target=none"]),
    ("task=teacher target=hidden", ["target=hidden", "a teacher has no teacher", "target=none"]),
    ("task=hint target=soft", ["target=soft", "task=hint", "middle layer", "target=none"]),
    ("target.alpha=0.5", ["target=none", "target=soft", "alpha"]),
    ("target.beta=0.5", ["target=none", "target=hidden", "beta"]),
    ("target=soft target.alpha=0", ["target=soft", "weight 0", "target=none"]),
    ("target=soft target.alpha=-1", ["target.terms.soft.weight=-1", "negative"]),
    ("target=hidden target.beta=-0.1", ["target.terms.hidden.weight=-0.1", "negative"]),
    ("image.resize=40 image.crop=41", ["image.crop=41", "image.resize=40"]),
    ("image.crop=0", ["image.crop=0", "1"]),
    ("teacher.finetune=0.1", ["teacher.finetune=0.1", "teacher.backbone=FILE"]),
    ("teacher.backbone=a.pt teacher.finetune=2", ["teacher.finetune=2", "0 … 1"]),
    ("teacher.weights=a.pt teacher.backbone=b.pt", ["teacher.weights", "teacher.backbone", "one"]),
    ("data=identity_folders", ["data.root", "data.root=…"]),
    ("model=timm", ["model.name", "model.name=…"]),
    ("task.batch_size=1", ["task.batch_size"]),
    ("schedule.epochs=0", ["schedule.epochs"]),
    ("trainer.threads=0", ["trainer.threads"]),
    ("trainer.threads=100000000", ["trainer.threads"]),
    ("task.learning_rates.random=[]", ["task.learning_rates.random"]),
    ("task.learning_rates.initialized=[0.1,0]", ["task.learning_rates.initialized"]),
    ("seed=-1", ["seed"]),
    ("data=photos data.root=x", ["needs identities, which data=photos does not give", "data=lfw"]),
    ("task.needs=faces data=agedb_30 data.root=x", ["needs faces", "data=photos", "data=mtfl", "data=lfw"]),
    ("task=align data=identity_folders data.root=x", ["needs landmarks", "identity_folders", "data=synthetic", "mtfl"]),
    ("data=mtfl data.root=x", ["needs identities", "data=mtfl", "data=lfw", "data=synthetic", "data@recognition"]),
    ("task=align data@recognition=mtfl recognition.root=x", ["mtfl has no identities", "data@recognition=synthetic"]),
    ("task=align init=full", ["init=full", "task=align", "init=pretrain", "init=distill", "init=teacher"]),
    ("task=align rate=8 init=teacher", ["init=teacher", "rate=1 target=none", "init=distill"]),
    ("task=verify rate=1 init=teacher target=soft", ["init=teacher", "rate=1 target=none"]),
    ("task=align task.softmax=true", ["task.softmax", "task=verify"]),
    ("task=classify task.softmax=false", ["task.softmax", "task=verify"]),
    ("target=soft target.views=0", ["target.views=0", "live", "all", "at least 1"]),
    ("target=soft target.views=some", ["target.views=some", "live", "all"]),
    ("target=soft target.bank=int8", ["target.bank=int8", "float16", "float32", "topN, as top64"]),
    ("target=soft target.bank=top0", ["target.bank=top0", "float16", "float32", "topN, as top64"]),
    ("target=soft target.bank=top8 target.views=live", ["target.bank=top8", "target.views=live", "target.views=all"]),
    ("target=soft target.bank=top8 target.beta=1", ["target.bank=top8", "terms.hidden", "target.bank=float16"]),
    ("target=logits target.bank=top8", ["target.bank=top8", "target.terms.logits", "target.bank=float16"]),
    ("task=embed target=cosine target.bank=top8", ["target.bank=top8", "terms.cosine", "target.bank=float16"]),
    (
        "target=soft target.bank=top8 +target.terms.more={type:soft,compares:logits,weight:1,tau:1,tau_squared:true}",
        ["target.bank=top8", "one temperature", "target.bank=float16"],
    ),
    ("task=verify target=soft target.terms.soft.from=me", ["soft.from=me", "auto", "teacher", "recognizer"]),
    ("task=verify target=soft target.terms.soft.from=teacher", ["no output layer", "from=recognizer"]),
    (
        "task=verify task.softmax=true target=soft target.terms.soft.from=recognizer data@recognition=synthetic_large",
        ["from=recognizer", "other identities"],
    ),
    ("target=soft +teachers.teacher.weights=a.pt", ["teachers.teacher", "another name"]),
    ("target=soft +teachers.auto.weights=a.pt", ["teachers.auto", "another name"]),
    ("target=soft +teachers.second.wights=a.pt", ["teachers.second takes weights=FILE"]),
    ("target=soft +teachers.second.model={}", ["teachers.second takes weights=FILE"]),
    ("trainer.accelerator=tpu", ["trainer.accelerator=tpu", "cuda"]),
    ("trainer.devices=0", ["trainer.devices", "at least 1"]),
    ("trainer.num_nodes=0", ["trainer.num_nodes", "at least 1"]),
    ("target=soft +target.terms.more={weight:1}", ["target.terms.more has no compares"]),
    ("target=soft +target.terms.more={type:raw,compares:relation,weight:1}", ["compares=relation", "relations"]),
    ("target=dkd target.terms.dkd.needs=names", ["target.terms.dkd.needs=names", "labels"]),
    (
        "task=align target=dkd data=mtfl data.root=x data@recognition=synthetic",
        ["target.terms.dkd needs labels", "data=mtfl", "target=soft, target=dist or target=grouped"],
    ),
    (
        "task=align target=dkd data@recognition=synthetic_large",
        ["target.terms.dkd needs labels", "data=synthetic ", "target=soft, target=dist or target=grouped"],
    ),
    (
        "task=embed data=photos data.root=x target=cosine +target.terms.cosine.needs=labels",
        ["target.terms.cosine needs labels", "data=photos"],
    ),
    ("task=embed target=dkd", ["target.terms.dkd needs identities", "task=embed", "target=cosine"]),
    ("task=embed target=relational", ["target=relational", "task=embed needs one", "target=cosine"]),
    ("task=embed target=similarity target.beta=1", ["target=similarity", "task=embed needs one", "target=cosine"]),
    ("task=verify task.images_per_identity=1", ["images_per_identity=1", "batch_size=128"]),
    ("task=verify task.images_per_identity=5", ["images_per_identity=5", "batch_size=128"]),
    ("task=verify task.images_per_identity=128", ["images_per_identity=128", "batch_size=128"]),
    ("teacher.seed=-1", ["teacher.seed"]),
    ("schedule.reading=first", ["schedule.reading=first", "both_rates", "one_rate"]),
    ("init.rates=all", ["init.rates=all", "random", "initialized", "whole"]),
    ("target=soft target.parity=0", ["target.parity=0", "above 0", "null"]),
    ("target=soft target.parity=-1", ["target.parity=-1", "above 0", "null"]),
    ("target=soft target.parity=nan", ["target.parity=nan", "above 0", "null"]),
    ("target=soft target.parity=inf", ["target.parity=inf", "above 0", "null"]),
    ("target=hidden target.terms.hidden.map=zero", ["target.terms.hidden.map=zero", "ridge", "random"]),
    ("trainer.score_every=-1", ["trainer.score_every=-1", "0: only at the end"]),
    (
        "trainer=ddp trainer.split_classes=true trainer.precision=16-mixed",
        ["trainer.split_classes=true", "trainer.precision=bf16-mixed"],
    ),
    ("init=undistilled", ["init=undistilled", "W_S0", "task=classify", "init=full"]),
    ("logger.mode=of", ["logger.mode=of", "auto", "online", "offline"]),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_an_impossible_combination_is_refused_with_the_reason_and_the_choices(words: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config(words.split())
    missing = [word for word in said if word not in str(refusal.value)]
    assert not missing, refusal.value


TOO_LATE = [
    ("target=soft target.tau=0", "tau"),
    ("target=soft target.tau=-3", "tau"),
    ("target=soft target.tau=nan", "tau"),
    ("target=soft target.alpha=nan", "weight"),
    ("target=soft target.alpha=inf", "weight"),
    ("target=hidden target.terms.hidden.reduction=average", "reduction"),
    ("task.learning_rates.random=[nan]", "task.learning_rates.random"),
    ("schedule.momentum=-1", "momentum"),
    ("schedule.weight_decay=-1", "weight_decay"),
    ("trainer.precision=16bit", "precision"),
    ("data.seed=nan", "data.seed=nan must be a finite number"),
    ("task=embed target=raw data=latent data.step=inf", "data.step=inf must be a finite number"),
    ("data@protocol=lfw protocol.root=/x protocol.margin=nan", "protocol.margin=nan must be a finite number"),
    ("task=spoof data=synthetic_spoof task.images_per_identity=4", "task.images_per_identity belongs to tasks"),
    ("trainer.num_workers=-1", "num_workers"),
    ("trainer.num_workers=100000000", "num_workers"),
    ("trainer.num_workers=many", "trainer.num_workers=many must lie in 0 … 1024, or be auto"),
    ("trainer.num_workers=1.5", "num_workers"),
    ("task=align task.options.normalizer=nose", "normalizer=nose: choices are eyes, box"),
    ("task=verify task.options.mining=easy", "mining=easy: choices are hard, semihard, all"),
    ("task=verify task.options.margin=0", "margin=0 must be"),
    ("task=verify task.options.margin=wide", "margin=wide must be"),
    ("task=verify task.options.normalize=perhaps", "normalize=perhaps"),
]


@pytest.mark.parametrize(("words", "key"), TOO_LATE, ids=[words for words, _ in TOO_LATE])
def test_a_value_that_no_run_can_use_is_refused_before_an_ancestor_is_trained(words: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        check_tree(plan(words.split()))


@pytest.mark.parametrize("words", ["data.num_identities=abc", "data.num_identities=null", "data.seed=x"])
def test_a_value_of_the_wrong_type_in_a_source_is_an_error_of_ours(words: str) -> None:
    with pytest.raises(FacedistillError, match=words.split("=")[0].split(".")[-1]):
        plan([words])


@pytest.mark.parametrize("key", ["colour", "target.x", "schedule.x", "teacher.x", "image.x"])
@pytest.mark.parametrize("plus", ["", "+"])
def test_an_unknown_key_is_refused_even_with_a_plus(plus: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key.split(".")[-1]):
        compose_config([f"{plus}{key}=1"])


@pytest.mark.parametrize(
    ("word", "choices"),
    [
        ("target=sfot", ["soft", "hidden", "logits", "none"]),
        ("init=ful", ["full", "fitnet", "scratch"]),
        ("task=classfy", ["classify", "teacher", "hint"]),
        ("scale=papr", ["paper", "embedded"]),
    ],
)
def test_a_misspelt_choice_names_the_choices(word: str, choices: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config([word])
    assert all(choice in str(refusal.value) for choice in [word.split("=")[1], *choices])


@pytest.mark.parametrize("word", ["rate=eight", "seed=0.5", "plan=perhaps", "schedule.epochs=few", "target.tau=hot"])
def test_a_word_of_the_wrong_type_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word.split("=")[1]):
        compose_config([word])


def test_the_paper_scale_is_exactly_the_set_up_of_the_paper() -> None:
    config = compose_config(["scale=paper", "target=soft", "init=full", "rate=8"])
    assert dataclasses.asdict(config.image) == {"resize": 256, "crop": 224}
    assert config.batch_sizes == {"classification": 256, "alignment": 64, "verification": 128}
    assert config.task.batch_size == 256
    assert (config.target.alpha, config.target.beta, config.target.tau) == (1.0, 0.0, 3.0)
    assert config.target.terms["soft"]["tau_squared"] is True
    assert (config.schedule.momentum, config.schedule.weight_decay) == (0.9, 5e-4)
    assert config.epoch_rates == [0.01] * 30
    assert compose_config(["scale=paper", "target=soft", "rate=8"]).epoch_rates == [0.1] * 30 + [0.01] * 30
    for model in (config.model, config.teacher.model):
        assert (model["name"], model["block"], model["layers"], model["width"]) == (
            "resnet50",
            "bottleneck",
            [3, 4, 6, 3],
            64,
        )


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_composes_with_exactly_one_active_term_of_weight_one(target: str) -> None:
    active = compose_config(TARGETS[target]).target.active()
    assert {name: term["weight"] for name, term in active.items()} == {target: 1.0}


def test_both_terms_can_be_active_and_no_term_is_without_a_target() -> None:
    both = compose_config(["target=soft", "target.beta=0.25"]).target.active()
    assert {name: term["weight"] for name, term in both.items()} == {"soft": 1.0, "hidden": 0.25}
    assert compose_config([]).target.active() == {}


SCHEDULE = ["task.learning_rates.random=[0.5,0.25]", "task.learning_rates.initialized=[0.125]", "schedule.epochs=2"]


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ("init=scratch", [0.5, 0.5, 0.25, 0.25]),
        ("init=scratch target=soft", [0.5, 0.5, 0.25, 0.25]),
        ("init=full target=soft", [0.125, 0.125]),
        ("init=fitnet target=soft", [0.5, 0.5, 0.25, 0.25]),
        ("init=fitnet init.rates=initialized target=soft", [0.125, 0.125]),
        ("init=scratch_whole target=soft", [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ("init=scratch_whole target=none", [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ("schedule.reading=one_rate", [0.5, 0.5]),
        ("schedule.reading=one_rate task=teacher", [0.5, 0.5]),
        ("schedule.reading=one_rate init=full target=soft", [0.125, 0.125]),
        ("schedule.reading=one_rate init=scratch_whole target=none", [0.5, 0.5, 0.125, 0.125]),
        ("schedule.reading=one_rate init=fitnet target=soft", [0.5, 0.5]),
        ("task=hint", [0.5, 0.5, 0.25, 0.25]),
        ("task=teacher", [0.5, 0.5, 0.25, 0.25]),
        ("task=teacher teacher.backbone=a.pt", [0.125, 0.125]),
        ("target=soft teacher.backbone=a.pt", [0.5, 0.5, 0.25, 0.25]),  # the teacher's backbone is not the student's
    ],
)
def test_the_learning_rate_of_every_epoch_is_that_of_how_the_run_starts(words: str, rates: list[float]) -> None:
    assert compose_config([*SCHEDULE, *words.split()]).epoch_rates == rates


ADAMW = ["schedule.optimizer=adamw", "schedule.shape=cosine", "schedule.warmup=0.05"]


def test_a_cosine_has_one_learning_rate_and_as_many_epochs_as_at_one() -> None:
    cosine = [*SCHEDULE, "schedule.shape=cosine"]
    assert compose_config([*cosine, "schedule.reading=one_rate"]).epoch_rates == [0.5, 0.5]
    assert compose_config([*cosine, "init=full", "target=soft"]).epoch_rates == [0.125, 0.125]
    assert compose_config([*cosine, "task.learning_rates.random=[0.3]"]).epoch_rates == [0.3, 0.3]


@pytest.mark.parametrize(
    ("words", "said", "then"),
    [
        ("schedule.shape=cosine", "takes 0.1, 0.01 in turn", "schedule.reading=one_rate"),
        ("schedule.shape=cosine task=align init=distill", "0.01, 0.01, 0.01", "task.learning_rates.initialized=[0.01]"),
        ("schedule.shape=cosine init=scratch_whole", "in turn", "init.rates=random schedule.reading=one_rate"),
        (" ".join(ADAMW), "0.1 is too much", "learning_rates.classification.random=[0.001]"),
        (f"{' '.join(ADAMW)} task=verify", "0.1 is too much", "learning_rates.verification.random=[0.001]"),
        (
            "schedule.optimizer=adamw task=align init=distill learning_rates.alignment.initialized=[0.05]",
            "0.05 is too much",
            "learning_rates.alignment.initialized=[0.001]",
        ),
    ],
)
def test_learning_rates_that_an_optimizer_or_a_shape_does_not_take(words: str, said: str, then: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refusal:
        compose_config(words.split())
    assert str(refusal.value).endswith(then)
    compose_config([*words.split(), *then.split()])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("schedule.optimizer=adam", "choices are sgd, adamw"),
        ("schedule.shape=linear", "choices are steps, cosine"),
        ("schedule.warmup=0.1", "belongs to schedule.shape=cosine"),
        ("schedule.warmup=1", "must lie in 0 … 1"),
        ("schedule.warmup=-0.1", "must lie in 0 … 1"),
        ("schedule.warmup=nan", "must lie in 0 … 1"),
    ],
)
def test_a_schedule_that_does_not_exist(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(word.partition("=")[0])) as refusal:
        compose_config([word])
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "words", [{"num_identities": 1}, {"images_per_identity": 1}, {"pairs_per_fold": 3}, {"pairs_per_fold": 0}]
)
def test_a_source_that_can_not_be_split_is_refused_when_planned(words: dict[str, int]) -> None:
    key, value = next(iter(words.items()))
    with pytest.raises(DataError, match=f"data.{key}"):
        plan([f"data.{key}={value}"])


@pytest.mark.parametrize("task", ["teacher", "classify", "align", "verify"])
def test_the_paper_s_learning_rates_are_those_of_every_task(task: str) -> None:
    words = ["scale=paper", f"task={task}"]
    assert compose_config(words).epoch_rates == [0.1] * 30 + [0.01] * 30
    if task in ("align", "verify"):
        assert compose_config([*words, "init=distill"]).epoch_rates == [0.01] * 30


def test_a_kind_of_task_has_learning_rates_of_its_own() -> None:
    words = ["learning_rates.alignment.random=[0.5]", "schedule.epochs=2"]
    assert compose_config([*words, "task=align"]).epoch_rates == [0.5, 0.5]
    assert compose_config([*words, "task=classify"]).epoch_rates == [0.1, 0.1, 0.01, 0.01]
    assert compose_config([*words, "task=align", "task.learning_rates.random=[0.25]"]).epoch_rates == [0.25, 0.25]


@pytest.mark.parametrize("task", ["classify", "align", "verify"])
@pytest.mark.parametrize("scale", ["embedded", "paper"])
def test_learning_rates_of_a_scale_are_positive_and_fall(scale: str, task: str) -> None:
    config = compose_config([f"scale={scale}", f"task={task}"])
    assert config.epoch_rates == sorted(config.epoch_rates, reverse=True)
    assert all(math.isfinite(rate) and 0 < rate <= 1 for rate in config.epoch_rates)


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys, facedistill.config.compose, facedistill.runs.run, facedistill.runs.plan, facedistill.train\n"
        "run = facedistill.runs.plan.plan(['rate=8', 'init=full', 'target=soft'])\n"
        "run.identity, facedistill.runs.plan.tree(run)\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'timm', 'albumentations', 'wandb', 'matplotlib')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "path", ["a b", "Müller", "faces (1)", "it's", "a=b", "[x]", "{x}", "顔", "~/x", "../x", "c:\\x", 'say "x"']
)
def test_a_path_may_have_any_name(path: str) -> None:
    assert compose_config(["data=identity_folders", f"data.root={path}"]).data["root"] == path
    assert compose_config([f"cache_dir={path}"]).cache_dir == path


def test_paths_in_quotes_and_interpolations_stay_as_they_are() -> None:
    assert compose_config(["data=identity_folders", "data.root='a (1)'"]).data["root"] == "a (1)"
    assert compose_config(["runs_dir=here", "cache_dir=${runs_dir}/cache"]).cache_dir == "here/cache"
    with pytest.raises(ConfigError):
        compose_config(["data=identity_folders", "data.root=x", "rate=(1"])


def test_faces_are_given_by_whatever_has_identities_or_landmarks() -> None:
    given = {name: node["gives"] for name, node in nodes("data").items()}
    assert given["photos"] == ["faces"]
    assert data_with("faces") == [name for name, gives in given.items() if gives]
    assert {"lfw", "mtfl", "synthetic", "packed"} <= set(data_with("faces"))
    assert {"agedb_30", "same"}.isdisjoint(data_with("faces"))
    for name in data_with("faces"):
        root = ["data.root=x"] if "root" in nodes("data")[name] else []
        assert compose_config(["task.needs=faces", f"data={name}", *root]).data["name"] == name


@pytest.mark.parametrize(
    "words",
    [
        ["rate=8", "init=full", "target=soft"],
        ["task=verify", "task.softmax=true", "teacher.seed=${seed}"],
        ["data.num_identities=${seed}"],
        ["experiments=table3", "schedule.epochs=3"],
    ],
    ids=str,
)
def test_a_seed_changes_what_it_would_if_its_words_were_composed_alone(words: list[str]) -> None:
    """Cells that differ in their seed are composed once."""
    for seed in (4, 40):
        found = compose_config([*words, f"seed={seed}"])
        with understood(words):
            alone = checked(hydra_compose("config", [*words, f"seed={seed}"]), words)
        assert found == alone
        assert found.seed == seed
        found.data.clear()  # what one gets is one's own
        assert compose_config([*words, f"seed={seed}"]) == alone


def test_a_seed_that_no_generator_takes_is_refused_for_a_cell_that_was_composed() -> None:
    compose_config(["rate=8", "seed=1"])
    with pytest.raises(ConfigError, match="seed"):
        compose_config(["rate=8", f"seed={2**32}"])
