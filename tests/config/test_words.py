"""Words that Hydra or OmegaConf refuse: one line of ours, which names the word and says what to type instead."""

import pytest
from hydra.errors import HydraException

from facedistill.config.compose import compose_config, understood, with_words
from facedistill.config.words import quoted
from facedistill.errors import ConfigError

# A word, and what the line about it must say.
MALFORMED = [
    # not KEY=VALUE
    ("", ["an empty word", "rate=8"]),
    ("  ", ["an empty word", "rate=8"]),
    ("--rate=8", ["--rate=8", ": rate=8"]),
    ("-rate=8", ["-rate=8", ": rate=8"]),
    ("rate 8", ["rate 8", ": rate=8"]),
    ("rate: 8", ["rate: 8", ": rate=8"]),
    ("rate = 8", ["rate = 8", ": rate=8"]),
    ("rate", ["rate: words are KEY=VALUE", "rate=8"]),
    ("=8", ["=8", "KEY=VALUE"]),
    ("-m", ["-m", "--help"]),
    ("/some/path", ["/some/path", "data.root=/some/path"]),
    ("a'b", ["a'b", "KEY=VALUE"]),
    ("lfw", ["lfw: words are KEY=VALUE", "data=lfw"]),
    ("table1", ["experiments=table1"]),
    ("soft", ["target=soft"]),
    ("~task", ["~task", "task=…"]),
    ("~rate=8", ["~rate=8", "rate=…"]),
    ("task=[align,verify]", ["there is one choice", "facedistill train -m task=align,verify"]),
    ("hydra.job.chdir=true", ["hydra.job.chdir=true", "Leave it out", "runs_dir=FOLDER"]),
]
# Choices that are not there, and values that no run can have.
COMPOSED = [
    ("task=clasify", ["task=clasify", "Did you mean task=classify?", "task=align", "task=verify"]),
    ("init=nope", ["init=nope", "init=full", "init=scratch", "init=fitnet", "init=distill", "init=pretrain"]),
    ("init=FULL", ["Did you mean init=full?"]),
    ("target=", ["target= ", "target=soft", "target=none"]),
    ("data=lfww", ["Did you mean data=lfw?", "data=celeba", "data=synthetic"]),
    ("data=/some/path", ["data=/some/path", "data=identity_folders"]),
    ("data@recognition=lfww", ["Did you mean data@recognition=lfw?"]),
    ("experiments=tabel1", ["Did you mean experiments=table1?", "experiments=demo"]),
    ("experiments=[table1,tabel2]", ["Did you mean experiments=table2?"]),
    ("hydra/launcher=slurn", ["Did you mean hydra/launcher=slurm?", "hydra/launcher=local"]),
    ("rate=${nope}", ["rate=${nope}", "'nope' not found"]),
    ("rate=${oc.env:NOPE}", ["rate=${oc.env:NOPE}", "NOPE", "not found"]),
    ("seed=-1", ["seed=-1", "0 … 4294967295"]),
    ("seed=4294967296", ["seed=4294967296", "0 … 4294967295"]),
    ("seed=1 teacher.seed=4294967296", ["teacher.seed=4294967296", "0 … 4294967295"]),
    ("schedule.epochs=9999999999999999999999", ["schedule.epochs=9999999999999999999999", "1 … 100000"]),
    ("runs_dir=", ["runs_dir=FOLDER"]),
    ("cache_dir=", ["cache_dir=FOLDER"]),
]
# A value that can't be read, or of another type; several values; a key that is not there.
REFUSED = [
    ("rate==8", ["rate==8", "rate=1, rate=2, rate=4, rate=8"]),
    ("rate=[2,4", ["rate=[2,4", "rate=1, rate=2, rate=4, rate=8"]),
    ("rate={8", ["rate={8", "rate=8"]),
    ("rate=8}", ["rate=8}", "rate=1, rate=2"]),
    ("rate='8", ["rate='8", "rate=1, rate=2"]),
    ("rate=8,", ["rate=8,", "rate=1, rate=2"]),
    ("rate=x", ["rate=x", "rate=1, rate=2, rate=4, rate=8"]),
    ("rate=", ["rate=:", "rate=1, rate=2, rate=4, rate=8"]),
    ("rate=null", ["rate=null", "rate=1, rate=2"]),
    ("rate=true", ["rate=true", "rate=1, rate=2"]),
    ("seed=1.5", ["seed=1.5", "a whole number", "seed=0"]),
    ("seed=null", ["seed=null", "a whole number", "seed=0"]),
    ("seed={a:1}", ["a whole number", "seed=0"]),
    ("trainer.devices=two", ["trainer.devices=two", "a whole number", "trainer.devices=1"]),
    ("schedule.momentum=much", ["a number", "schedule.momentum=0.9"]),
    ("plan=ture", ["plan=ture", "true or false", "plan=false"]),
    ("schedule=3", ["schedule=3", "schedule.epochs=…"]),
    ("task.learning_rates.random=3", ["a list", "task.learning_rates.random=[0.1,0.01]"]),
    ("group=a(b", ["text", """"group='a(b'\""""]),
    ("model.rates=3", ["a list", "model.rates=[1,2,4,8]"]),
    ("target.terms.soft=3", ["target.terms.soft=3", "target.terms.soft.weight=…"]),
    ("rate=2,4", ["rate=2,4", "facedistill train -m", "one is rate=2"]),
    ("seed=range(0,3)", ["facedistill train -m", "seed=0"]),
    ("rate=choice(2,4)", ["facedistill train -m", "rate=2"]),
    ("rate=glob(*)", ["facedistill train -m"]),
    ("foo=1", ["foo=1", "no such key", "facedistill train --help"]),
    ("+foo=1", ["+foo=1", "no such key", "facedistill train --help"]),
    ("Rate=8", ["Did you mean rate=8?"]),
    ("schedule.epoch=3", ["Did you mean schedule.epochs=3?"]),
    ("epochs=3", ["Did you mean schedule.epochs=3?"]),
    ("batch_size=64", ["Did you mean task.batch_size=64?"]),
    ("target.nope=1", ["no such key", "target.alpha=…", "target.tau=…"]),
    ("target.terms.soft.wieght=1", ["Did you mean target.terms.soft.weight=1?"]),
    ("trainer.foo.bar=1", ["trainer.foo.bar=1", "no such key"]),
    ("data.root=x", ["no such key", "data.root belongs to", "data=lfw"]),
    ("data.rooot=x", ["data.root belongs to", "data=identity_folders"]),
    ("data=lfw data.rot=x", ["data.rot=x", "Did you mean data.root=x?"]),
    ("data@recogniton=lfw", ["Did you mean data@recognition=lfw"]),
    ("teacher.wieghts=x", ["Did you mean teacher.weights=x?"]),
    ("teachers.second.weights=x", ["+teachers.second.weights=x"]),
    ("+teachers.second=x", ["A teacher is added by +teachers.second.weights=x"]),
    ("recognition.num_identities=4", ["belongs to data@recognition=synthetic, data@recognition=synthetic_large"]),
    ("protocol.pairs=x", ["protocol.pairs belongs to data@protocol=lfw"]),
    ("data.num_people=4", ["data.num_people belongs to data=synthetic_spoof"]),
    ("hydra.nope=1", ["hydra.nope=1", "no such key", "hydra.launcher=…"]),
    ("hydra.launcher.njobs=2", ["Did you mean hydra.launcher.n_jobs=2?"]),
    ("+rate=8", ["there already", ": rate=8"]),
    ("+task=align", ["there already", ": task=align"]),
]


def check(refusal: pytest.ExceptionInfo[ConfigError], said: list[str]) -> None:
    line = str(refusal.value)
    assert not [part for part in said if part not in line], line
    assert len(line.splitlines()) == 1
    assert not [part for part in ("hydra.cc", "full_key", "append to your") if part in line]


@pytest.mark.parametrize(("word", "said"), MALFORMED, ids=[word for word, _ in MALFORMED])
def test_a_word_of_another_form_is_one_line_that_says_what_to_type(word: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config([word])
    check(refusal, said)


@pytest.mark.parametrize(("words", "said"), COMPOSED, ids=[words for words, _ in COMPOSED])
def test_a_choice_or_number_that_is_not_there_is_one_line_with_those_that_are(words: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config(words.split(" "))
    check(refusal, said)


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_what_hydra_refuses_is_one_line_that_says_what_to_type(words: str, said: list[str]) -> None:
    typed = words.split(" ")
    with pytest.raises(ConfigError) as refusal, understood(typed):
        raise HydraException("what it says\nin several lines")  # composing takes long; see the next test
    check(refusal, [*said, typed[-1]])


@pytest.mark.parametrize(
    "words",
    [
        "foo=1",
        "+foo=1",
        "schedule.epoch=3",
        "hydra.nope=1",
        "rate=x",
        "rate=[2,4",
        "rate=2,4",
        "+rate=8",
        "model.rates=3",
    ],
)
def test_hydra_does_refuse_them(words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_config([words])
    check(refusal, [words])


def test_what_a_refusal_says_to_type_can_be_typed() -> None:
    for refused, instead in (
        ("--rate=8", "rate=8"),
        ("schedule.epoch=3", "schedule.epochs=3"),
        ("group=a(b", "group='a(b'"),
        ("lfw", "data=lfw"),
    ):
        with pytest.raises(ConfigError) as refusal:
            compose_config([refused])
        assert instead in str(refusal.value)
        compose_config([instead, *(["data.root=x"] if instead == "data=lfw" else [])])


def test_in_a_sweep_the_value_that_does_not_fit_is_named() -> None:
    for words, said in (
        (["rate=2,x"], "rate=x: choices are rate=1"),
        (["init=glob(*)", "foo=1"], "foo=1: there is no"),
    ):
        with pytest.raises(ConfigError, match=said), understood(words, sweep=True):
            raise HydraException("it says something")


def test_without_words_it_is_what_hydra_says() -> None:
    with pytest.raises(ConfigError, match=r"^it says something; `facedistill train --help`"), understood([]):
        raise HydraException("it says something\nand more")


def test_of_a_word_that_is_given_twice_the_last_counts() -> None:
    assert compose_config(["rate=2", "rate=8"]).rate == 8


@pytest.mark.parametrize(
    ("word", "value"), [("rate= 8", 8), ("++rate=8", 8), ("group=a b", "a b"), ("seed=1_000", 1000)]
)
def test_forms_that_are_not_the_usual_one_are_understood(word: str, value: object) -> None:
    assert getattr(compose_config([word]), word.strip("+").partition("=")[0]) == value


def test_words_about_a_finished_run_are_refused_in_the_same_way() -> None:
    config = compose_config([])
    for word, said in (("schedule.epoch=3", "schedule.epochs=3"), ("rate=x", "rate=8"), ("rate", "KEY=VALUE")):
        with pytest.raises(ConfigError, match=said):
            with_words(config, [word])


@pytest.mark.parametrize(
    "path", ["a,b", "b\\", "it's", "a'b\\'c", " a ", "a\nb", "Jos\udce9\x1b[31m", "a: [b", "==c|d", "#a"]
)
def test_a_path_may_have_any_name_also_in_words_that_were_quoted_before(path: str) -> None:
    word = f"data.root={path}"
    for words in (word, quoted(word)):
        config = compose_config(["data=identity_folders", words])
        assert config.data["root"] == path
        assert with_words(config, [words]).data["root"] == path


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("[a,b]", ["a", "b"]),
        ("[/a/b, my faces (2),it's,Müller]", ["/a/b", "my faces (2)", "it's", "Müller"]),
        ("['a,b',c]", ["a,b", "c"]),
        ('["a b",c]', ["a b", "c"]),
        ("[x]", "[x]"),
        ("[a,b", "[a,b"),
    ],
)
def test_several_paths_in_brackets(value: str, paths: list[str] | str) -> None:
    word = f"data.root={value}"
    for words in (word, quoted(word), quoted(word, sweep=True)):
        assert compose_config(["data=photos", "data.alignment=none", "task.needs=faces", words]).data["root"] == paths
    assert compose_config([f"cache_dir={value}"]).cache_dir == value
