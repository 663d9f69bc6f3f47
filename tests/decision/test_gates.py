"""Gate values and the gates that are tried, from their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segsmith.decision.gates import gate_values, gates_to_try, top_k_mean
from segsmith.errors import ModelError

PLANES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(PLANES, st.integers(1, 100))
def test_the_mean_of_the_highest(plane, count):
    assert top_k_mean(plane, count) == round(float(np.sort(plane.ravel())[::-1][:count].mean()))


def test_each_class_has_its_own_and_none_empties_nothing():
    planes = np.array([[[10, 20]], [[0, 255]]], np.uint8)
    assert gate_values(planes, "top_k", 1) == [20, 255]
    assert gate_values(planes, "none", 1) == [255, 255]


def test_a_presence_head_may_say_it():
    planes = np.zeros((2, 3, 3), np.uint8)
    assert gate_values(planes, "presence", 1, np.array([200, 7], np.uint8)) == [200, 7]
    with pytest.raises(ModelError, match=r"asks the presence head, .*decide\.gate=top_k"):
        gate_values(planes, "presence", 1)


def test_every_value_is_a_gate_while_they_are_few():
    assert gates_to_try([7, 0, 200, 7], 16) == [0, 7, 200]
    assert gates_to_try([0, 0], 16) == [0]


@given(st.lists(st.integers(0, 255), min_size=1), st.integers(3, 16))
def test_of_many_values_some_are_gates_lowest_and_highest_among_them(values, most):
    gates = gates_to_try(values, most)
    assert gates == sorted(set(gates))
    assert gates[0] == 0
    assert len(gates) <= most
    assert set(gates[1:]) <= set(values)
    positive = [value for value in values if value]
    assert gates[1:] == [] if not positive else (gates[1], gates[-1]) == (min(positive), max(positive))
