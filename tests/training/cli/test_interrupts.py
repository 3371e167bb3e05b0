"""Signals from outside reach a command at any point."""

import signal
import sys
import time

import pytest

from training.cli.interrupts import terminable

NUMBERS = [signal.SIGINT, signal.SIGTERM]


class Finalized:
    """Runs an action when it is collected; Python drops exceptions of the action."""

    def __init__(self, action, argument):
        self._action, self._argument = action, argument

    def __del__(self):
        self._action(self._argument)


def _run(*finalized):
    """Collect one after the other, then wait for the interrupt."""
    for action, argument in finalized:
        Finalized(action, argument)
    time.sleep(10)
    pytest.fail("the interrupt was lost")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_an_interrupt(number):
    """SIGTERM, with which a container is stopped, acts like Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interrupt_inside_a_finalizer_is_raised_again(number):
    """The exception is raised as soon as the finalizer ends."""
    with pytest.raises(KeyboardInterrupt), terminable():
        _run((signal.raise_signal, number))


def test_an_interrupt_is_raised_until_it_arrives():
    """One finalizer after the other may drop it, so it is raised again."""
    with pytest.raises(KeyboardInterrupt), terminable():
        _run((signal.raise_signal, signal.SIGTERM), *3 * [(time.sleep, 0.1)])


def test_an_interrupt_is_not_raised_after_the_end():
    """A command that has ended is not interrupted, and the former signal handlers are back."""
    former = [signal.getsignal(number) for number in signal.Signals], sys.unraisablehook

    with terminable():
        Finalized(signal.raise_signal, signal.SIGTERM)

    time.sleep(0.1)
    assert ([signal.getsignal(number) for number in signal.Signals], sys.unraisablehook) == former


def test_other_errors_inside_a_finalizer_are_told_as_ever(monkeypatch):
    """The former hook reports them."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    with terminable():
        Finalized(int, "x")

    assert told == [ValueError]
