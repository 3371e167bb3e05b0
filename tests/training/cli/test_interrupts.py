"""What ends a command from outside reaches it, wherever it arrives."""

import signal
import sys
import time

import pytest

from training.cli.interrupts import terminable

NUMBERS = [signal.SIGINT, signal.SIGTERM]


class Finalized:
    """Runs an action when it is collected, where Python drops what is raised."""

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
    """The container's stop like Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interrupt_inside_a_finalizer_is_raised_again(number):
    """As soon as the finalizer is done."""
    with pytest.raises(KeyboardInterrupt), terminable():
        _run((signal.raise_signal, number))


def test_an_interrupt_is_raised_until_it_arrives():
    """Where it meets one finalizer after the other."""
    with pytest.raises(KeyboardInterrupt), terminable():
        _run((signal.raise_signal, signal.SIGTERM), *3 * [(time.sleep, 0.1)])


def test_an_interrupt_is_not_raised_after_the_end():
    """A command that ends meanwhile has ended, and the handlers are what they were."""
    former = [signal.getsignal(number) for number in signal.Signals], sys.unraisablehook

    with terminable():
        Finalized(signal.raise_signal, signal.SIGTERM)

    time.sleep(0.1)
    assert ([signal.getsignal(number) for number in signal.Signals], sys.unraisablehook) == former


def test_other_errors_inside_a_finalizer_are_told_as_ever(monkeypatch):
    """By the hook that was there before."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    with terminable():
        Finalized(int, "x")

    assert told == [ValueError]
