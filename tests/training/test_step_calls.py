"""Steps that call other steps, and those that raise."""

import pytest

from ninokit.training.step_calls import StepCalls


@pytest.fixture
def step():
    calls, counted = StepCalls(), []

    def hook() -> None:
        calls.enter()

    def run(*inner, fail=False) -> list[bool]:
        hook()
        for depth in inner:
            run(*depth)
        if fail:
            raise ValueError("in the closure")
        counted.append(calls.leave())
        return counted

    return run


def test_one_after_the_other(step):
    step()
    assert step() == [True, True]


def test_one_inside_the_other(step):
    step([[]])
    assert step([], []) == [False, False, True, False, False, True]


def test_after_an_error(step):
    with pytest.raises(ValueError, match="in the closure"):
        step(fail=True)
    assert step([]) == [False, True]


def test_deeper_after_an_error(step):
    with pytest.raises(ValueError, match="in the closure"):
        step([], fail=True)

    def from_a_function() -> list[bool]:
        return step([])

    assert from_a_function() == [False, False, True]


def test_a_step_whose_start_was_not_seen():
    assert StepCalls().leave()
