"""Which images make up a batch: stated shares in each, no repeats that need not be, no chance but a counted one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from segsmith import recipe
from segsmith.errors import DataError
from segsmith.samples.sampling import EpochPlan, hard_weights, plan_epochs, systematic_draw
from segsmith.samples.strata import Strata

OBJECTS = np.array([0] * 40 + [1] * 30 + [2, 3, 9] * 10)
MIX = {"empty": 0.25, "single": 0.375, "multi": 0.375}
weights = st.floats(0, 1).map(lambda weight: round(weight, 3))
group_sizes = st.integers(1, 40)


def planned(
    objects: np.ndarray,
    mix: dict[str, float] | None,
    batch_size: int,
    images: int | None = None,
    stage: int = 0,
    seed: int = 0,
) -> EpochPlan:
    options = recipe.Stage(mix=mix, images_per_epoch=images)
    return plan_epochs(np.arange(len(objects)), strata(objects), stage, options, batch_size, seed)


def strata(objects: np.ndarray, **known) -> Strata:
    """Samples of which the objects are counted, and nothing else is known unless it is said."""
    count = len(objects)
    facts = {
        "objects": objects,
        "foreground": np.minimum(1, objects / 10).astype(np.float32),
        "present": (objects > 0)[:, None],
        "classes": ("object",),
        "sources": ("all",),
        "source": np.zeros(count, np.int64),
        "weight": np.ones(count),
    }
    return Strata(**facts | known)


@settings(max_examples=60)
@given(
    sizes=st.tuples(group_sizes, group_sizes, group_sizes),
    mix=st.tuples(weights, weights, weights),
    batch_size=st.integers(1, 16),
    images=st.none() | st.integers(1, 200),
    epoch=st.integers(0, 3),
)
@example(sizes=(20, 20, 20), mix=(0.6, 0.03, 0.37), batch_size=16, images=160, epoch=0)
@example(sizes=(20, 20, 20), mix=(0.17, 0.43, 0.53), batch_size=1, images=52, epoch=0)
def test_shares_hold_in_every_batch_and_images_come_in_turn(sizes, mix, batch_size, images, epoch):
    assume(sum(mix) > 0)
    objects = np.repeat([0, 1, 2], sizes)
    plan = planned(objects, {"empty": mix[0], "single": mix[1], "multi": mix[2]}, batch_size, images=images)
    drawn = plan.draw(epoch)

    assert drawn.shape == (plan.batches, plan.batch_size)
    shares = dict(zip(plan.names, plan.shares, strict=True))
    for number, name in enumerate(("empty", "single", "multi")):
        share = shares.get(name, 0.0)
        in_group = objects[drawn] == number
        assert share == pytest.approx(mix[number] / sum(mix))
        assert np.abs(in_group.sum(axis=1) - share * plan.batch_size).max() < 1
        upto = np.arange(1, plan.batches + 1) * plan.batch_size
        assert np.abs(in_group.sum(axis=1).cumsum() - share * upto).max() < 1 + 1e-6

        times = np.bincount(drawn[in_group], minlength=len(objects))[objects == number]
        assert times.max() - times.min() <= 1, "an image comes again before all of its group came"
        if name not in plan.repeats:
            assert times.max() <= 1
        else:
            assert plan.repeats[name] == pytest.approx(share * plan.images / sizes[number])
            assert abs(times.mean() - plan.repeats[name]) < 1 / sizes[number] + 1e-6


@settings(max_examples=60)
@given(
    sizes=st.tuples(group_sizes, group_sizes, group_sizes),
    mix=st.tuples(*[st.integers(1, 8)] * 3),
    batch_size=st.integers(1, 8),
)
@example(sizes=(59, 49, 40), mix=(7, 5, 6), batch_size=4)  # 120 images, 40 of them multi
def test_nothing_repeats_unless_it_must(sizes, mix, batch_size):
    """Where an epoch has no stated length, none repeats, and one batch more would have to."""
    objects = np.repeat([0, 1, 2], sizes)
    plan = planned(objects, {"empty": mix[0] / 20, "single": mix[1] / 20, "multi": mix[2] / 20}, batch_size)
    most = min(size * sum(mix) / weight for size, weight in zip(sizes, mix, strict=True))
    assume(most >= batch_size)  # otherwise one batch alone repeats
    assert plan.repeats == {}
    assert np.bincount(plan.draw(0).ravel()).max() == 1
    assert plan.images <= most + 1e-6 < plan.images + batch_size + 1e-6


def test_repeats_say_how_often():
    plan = planned(OBJECTS, MIX, 16, images=160)  # 40 empty of 40, 60 single of 30, 60 multi of 30
    assert plan.repeats == {"single": 2.0, "multi": 2.0}
    times = Counter(plan.draw(0).ravel().tolist())
    assert {times[n] for n in range(40)} == {1}
    assert {times[n] for n in range(40, 100)} == {2}


def test_repeats_that_do_not_come_out_even():
    plan = planned(OBJECTS, {"empty": 0, "single": 1, "multi": 0}, 16, images=80)
    assert plan.repeats == {"single": pytest.approx(80 / 30)}
    times = Counter(plan.draw(0).ravel().tolist())
    assert sorted(times) == list(range(40, 70))
    assert Counter(times.values()) == {3: 20, 2: 10}


def test_a_group_that_comes_again_comes_in_another_order():
    first, _, again, _ = planned(OBJECTS, {"empty": 0, "single": 1, "multi": 0}, 15, images=60).draw(0)
    assert set(first.tolist()) != set(again.tolist())


def test_without_a_mix_an_epoch_is_every_image_once():
    plan = planned(OBJECTS, None, 10)
    assert sorted(plan.draw(0).ravel().tolist()) == list(range(100))
    assert plan.repeats == {}


def test_without_a_mix_the_rest_of_a_batch_waits_for_another_epoch():
    plan = planned(OBJECTS, None, 16)
    drawn = [set(plan.draw(epoch).ravel().tolist()) for epoch in range(4)]
    assert [len(images) for images in drawn] == [96] * 4
    assert set.union(*drawn) == set(range(100))


def test_fewer_images_than_a_batch():
    plan = planned(np.array([0, 1, 2]), None, 16)
    assert (plan.batches, plan.batch_size) == (1, 3)
    assert sorted(plan.draw(0)[0].tolist()) == [0, 1, 2]


def test_indices_are_what_is_drawn():
    plan = plan_epochs([7, 90, 45], strata(OBJECTS), 0, recipe.Stage(mix={"empty": 1, "single": 1, "multi": 1}), 3, 0)
    assert sorted(plan.draw(0)[0].tolist()) == [7, 45, 90]


def test_draws_are_a_pure_function_of_seed_stage_and_epoch():
    def drawn(epoch: int, **place: int) -> list[list[int]]:
        return planned(OBJECTS, MIX, 8, **place).draw(epoch).tolist()

    plan = planned(OBJECTS, MIX, 8)
    late, early = plan.draw(5), plan.draw(0)  # in any order
    assert late.tolist() == drawn(5)
    assert early.tolist() == drawn(0)
    draws = [drawn(0), drawn(1), drawn(0, seed=1), drawn(0, stage=1)]
    assert all(left != right for n, left in enumerate(draws) for right in draws[:n])


def test_groups_are_mixed_within_a_batch():
    first_places = [OBJECTS[batch[0]] for batch in planned(OBJECTS, MIX, 16, images=16 * 40).draw(0)]
    assert len({min(count, 2) for count in first_places}) == 3


@pytest.mark.parametrize(("name", "kept"), [("empty", OBJECTS > 0), ("single", OBJECTS != 1), ("multi", OBJECTS < 2)])
def test_a_mix_of_images_that_are_not_there_is_refused(name, kept):
    with pytest.raises(DataError) as caught:
        planned(OBJECTS[kept], MIX, 8, stage=2)
    message = f"train.stages.2.mix.{name} is {MIX[name]:g}, but no training image is of that stratum"
    assert str(caught.value).startswith(message)
    assert planned(OBJECTS[kept], MIX | {name: 0.0}, 8).draw(0).size


# Strata other than by objects


KNOWN = strata(
    np.array([0, 1, 1, 2, 5, 9]),
    foreground=np.array([0, 0.05, 0.1, 0.3, 0.5, 1.0], np.float32),
    present=np.array([[0, 0], [1, 0], [0, 1], [1, 1], [1, 0], [0, 1]], bool),
    classes=("scratch", "patch"),
    sources=("clean", "noisy"),
    source=np.array([0, 0, 0, 1, 1, 1]),
)


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("empty", [0]),
        ("single", [1, 2]),
        ("multi", [3, 4, 5]),
        ("filled", [1, 2, 3, 4, 5]),
        ("rest", [0, 1, 2, 3, 4, 5]),
        ("class:patch", [2, 3, 5]),
        ("source:noisy", [3, 4, 5]),
        ("coverage:0.1-0.5", [2, 3]),
        ("coverage:0.5-1", [4, 5]),
        ("objects:2-5", [3, 4]),
        ("objects:5+", [4, 5]),
    ],
)
def test_which_samples_fit_a_stratum(name, samples):
    recipe.Stage(mix={name: 1})
    assert np.flatnonzero(KNOWN.of(name)).tolist() == samples


def test_a_sample_belongs_to_the_first_stratum_named_that_it_fits():
    for mix, groups, left_out in (
        ({"class:patch": 1, "class:scratch": 1}, [[2, 3, 5], [1, 4]], 1),
        ({"class:scratch": 1, "class:patch": 1}, [[1, 3, 4], [2, 5]], 1),
        ({"class:scratch": 1, "rest": 3}, [[1, 3, 4], [0, 2, 5]], 0),
        ({"multi": 0, "rest": 1}, [[0, 1, 2]], 3),
    ):
        plan = plan_epochs(range(6), KNOWN, 0, recipe.Stage(mix=mix, images_per_epoch=60), 4, 0)
        assert [group.tolist() for group in plan.groups] == groups
        assert plan.left_out == left_out
        assert plan.shares == pytest.approx([share / sum(mix.values()) for share in mix.values() if share])


@pytest.mark.parametrize(
    ("name", "said"), [("class:rust", "the data has scratch, patch"), ("source:tier", "the data has clean, noisy")]
)
def test_a_class_or_source_that_is_not_there(name, said):
    with pytest.raises(DataError, match=f"mix: '{name}', but {said}"):
        plan_epochs(range(6), KNOWN, 0, recipe.Stage(mix={name: 1}), 4, 0)


def test_a_source_of_less_weight_is_drawn_less_and_one_of_none_never():
    weight = np.repeat([1.0, 0.25, 0.0], 20)
    known = strata(np.zeros(60, np.int64), weight=weight)
    plan = plan_epochs(range(60), known, 0, recipe.Stage(images_per_epoch=100), 10, 0)
    times = np.bincount(plan.draw(0).ravel(), minlength=60)
    assert (times[:20] == 4).all()
    assert (times[20:40] == 1).all()
    assert not times[40:].any()
    assert plan.left_out == 20
    assert plan.repeats == {"all": pytest.approx(4)}
    once = plan_epochs(range(60), known, 0, recipe.Stage(), 5, 0)
    assert (once.images, once.repeats) == (25, {})


@settings(max_examples=60)
@given(
    weighed=st.lists(st.integers(1, 50), min_size=1, max_size=30), count=st.integers(0, 100), seed=st.integers(0, 99)
)
def test_a_weighted_image_comes_its_expected_count_rounded_down_or_up(weighed, count, seed):
    shares = np.array(weighed, float)
    drawn = systematic_draw(np.arange(len(shares)), shares, count, np.random.default_rng(seed))
    assert len(drawn) == count
    expected = count * shares / shares.sum()
    assert np.abs(np.bincount(drawn, minlength=len(shares)) - expected).max() < 1 + 1e-9


def test_weights_change_images_and_not_the_mix():
    plan, heavy = planned(OBJECTS, MIX, 16, images=160), np.ones(100)
    heavy[:4] = 5
    drawn = plan.draw(0, heavy)
    assert ((OBJECTS[drawn] == 0).sum(axis=1) == 4).all()
    times = np.bincount(drawn.ravel(), minlength=100)
    assert set(times[:4]) <= {3, 4}
    assert set(times[4:40]) <= {0, 1}
    assert plan.draw(0, np.full(100, 3.0)).tolist() == plan.draw(0).tolist()


def test_hard_weights_grow_with_loss_between_their_bounds():
    assert hard_weights(np.array([0.0, 1.0, 2.0, 9.0, np.nan]), 2.0).tolist() == [1.0, 1.0, 1.0, 2.0, 1.0]
    assert hard_weights(np.full(2, np.nan), 4.0).tolist() == [1.0, 1.0]
    assert hard_weights(np.array([1.0, 3.0]), 4.0).tolist() == [1.0, 1.5]
