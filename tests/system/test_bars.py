"""Bars: of several at a time the last one is on the terminal."""

from io import StringIO

from rich.console import Console

from facedistill.system.progress import Bar


def bar(terminal: bool = True) -> Bar:
    return Bar(console=Console(file=StringIO(), force_terminal=terminal), auto_refresh=False)


def test_a_bar_goes_while_another_is_there_and_comes_back() -> None:
    run, rendering, bank = bar(), bar(), bar()
    run.start()
    with rendering:
        assert (run.live.is_started, rendering.live.is_started) == (False, True)
        with bank:
            assert [one.live.is_started for one in (run, rendering, bank)] == [False, False, True]
        assert rendering.live.is_started
    assert (run.live.is_started, rendering.live.is_started) == (True, False)
    assert not run.live.transient, "what it says in the end stays"
    run.stop()
    assert not run.live.is_started
    with rendering:
        assert not run.live.is_started, "what has ended does not come back"
    assert not run.live.is_started


def test_a_bar_below_another_may_end_first() -> None:
    run, rendering = bar(), bar()
    run.start()
    rendering.start()
    run.stop()
    assert rendering.live.is_started
    rendering.stop()
    assert not run.live.is_started
    assert not Bar._on_terminal


def test_what_is_not_on_a_terminal_hides_nothing() -> None:
    run, other = bar(), bar(terminal=False)
    run.start()
    with other:
        assert run.live.is_started
    run.stop()
