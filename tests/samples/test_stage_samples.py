"""What a stage draws for a sample: counted, from training chips alone, by the rules of the recipe."""

from collections import Counter

import numpy as np
import pytest

from segsmith import recipe
from segsmith.data.ingest_rle import ingest
from segsmith.samples.chips import Chips, cut
from segsmith.samples.mixing import Cutmix, Paste
from segsmith.samples.sampling import plan_epochs
from segsmith.samples.stage_samples import StageSamples

OPTIONS = recipe.Data(fit="pad", input_hw=(32, 32))
EMPTY, ONE, TWO, THREE = 0, 1, 2, 5  # a, b, c, f of the made ships: how many ships there are


@pytest.fixture
def chips(ships) -> Chips:
    return cut(ingest(ships), OPTIONS)


def samples(chips: Chips, training=range(7), stage_number: int = 0, **augment: object) -> StageSamples:
    stage = recipe.Stage(augment=recipe.Augment(**({"hflip": 0} | augment)), epochs=10)
    return StageSamples(chips, stage, plan_epochs(list(training), chips.strata(), stage_number, stage, 2, 0))


def test_an_empty_image_gets_an_object_of_another(chips):
    pasting, partners = samples(chips, paste=1), Counter()
    for place in range(40):
        position = (0, place, EMPTY)
        (mixed,) = pasting.draw(position).mixed
        assert isinstance(mixed.how, Paste)
        partners[mixed.chip] += 1
        found, untouched = pasting.sample(position), pasting.untouched(EMPTY)
        assert found.mask.any()
        assert (found.image != untouched.image).any()
        assert set(pasting.words(pasting.draw(position))) == {f"paste from {chips.id(mixed.chip)}"}
    assert set(partners) == {1, 2, 4, 5}, "all that are filled, and only they"
    assert not pasting.draw((0, 0, ONE)).mixed, "onto one that is not empty"


def test_cutmix_takes_any_other_chip(chips):
    mixing = samples(chips, cutmix=1)
    partners = Counter(mixing.draw((0, place, TWO)).mixed[0].chip for place in range(100))
    assert set(partners) == set(range(7)) - {TWO}
    draws = [mixing.draw((0, place, TWO)) for place in range(5)]
    assert all(isinstance(draw.mixed[0].how, Cutmix) for draw in draws)


def test_partners_are_of_the_chips_the_stage_draws_alone(chips):
    few = samples(chips, training=[EMPTY, ONE, THREE], cutmix=1, paste=1)
    drawn = [mixed for place in range(60) for mixed in few.draw((0, place, EMPTY)).mixed]
    assert {mixed.chip for mixed in drawn if isinstance(mixed.how, Paste)} == {ONE, THREE}
    assert {mixed.chip for mixed in drawn if isinstance(mixed.how, Cutmix)} == {ONE, THREE}
    assert not samples(chips, training=[EMPTY], cutmix=1, paste=1).draw((0, 0, EMPTY)).mixed


def test_what_comes_in_is_changed_by_itself(chips):
    flipping = samples(chips, training=[EMPTY, THREE], paste=1, hflip=0.5, vflip=0.5)
    draws = [flipping.draw((0, place, EMPTY)) for place in range(40)]
    assert {draw.mixed[0].change.words for draw in draws} == {(), ("left-right",), ("upside down",),
                                                             ("left-right", "upside down")}  # fmt: skip
    assert any(draw.mixed[0].change.words != draw.change.words for draw in draws)


def test_draws_are_a_function_of_seed_stage_epoch_and_position(chips):
    def words(number: int, epoch: int, place: int) -> list[str]:
        found = samples(chips, stage_number=number, affine=1, colour=1, cutmix=1)
        return found.words(found.draw((epoch, place, TWO)))

    assert words(0, 3, 4) == words(0, 3, 4)
    assert len({tuple(words(*at)) for at in ((0, 3, 4), (1, 3, 4), (0, 4, 4), (0, 3, 5))}) == 4


def test_mixing_leaves_the_other_draws_as_they_were(chips):
    alone, beside = samples(chips, affine=1), samples(chips, affine=1, cutmix=1, paste=1)
    for place in range(5):
        one, other = alone.draw((0, place, EMPTY)).change, beside.draw((0, place, EMPTY)).change
        assert one.words == other.words
    only, both = samples(chips, paste=1), samples(chips, paste=1, cutmix=1)
    for place in range(5):
        (paste,) = only.draw((0, place, EMPTY)).mixed
        assert both.draw((0, place, EMPTY)).mixed[1] == paste


def test_images_of_few_objects_are_flipped_at_most(chips):
    picky = samples(chips, hflip=1, affine=1, colour=1, cutmix=1, paste=1, least_objects=2)
    for place in range(5):
        for chip in (ONE, EMPTY):
            assert picky.draw((0, place, chip)).change.words == ("left-right",)
        assert not picky.draw((0, place, ONE)).mixed
        assert [type(mixed.how) for mixed in picky.draw((0, place, EMPTY)).mixed] == [Paste]
        for chip in (TWO, THREE):
            assert len(picky.draw((0, place, chip)).change.words) == 3
            assert len(picky.draw((0, place, chip)).mixed) == 1


def test_the_last_epochs_are_changed_otherwise(chips):
    stage = recipe.Stage(
        epochs=6, last_epochs=2, augment=recipe.Augment(hflip=0, affine=1), augment_last=recipe.Augment(hflip=1)
    )
    found = StageSamples(chips, stage, plan_epochs([0, 1, 2], chips.strata(), 0, stage, 2, 0))
    first = [found.draw((epoch, 0, ONE)).change.words[0].split()[0] for epoch in range(6)]
    assert first == ["affine"] * 4 + ["left-right"] * 2


def test_a_source_that_is_not_trusted_lends_nothing(ships):
    dataset = ingest(ships)
    dataset.images.loc[[TWO, THREE], "source"] = "doubtful"
    options = OPTIONS.model_copy(update={"sources": {"doubtful": recipe.Source(trust=0.5)}})
    careful = samples(cut(dataset, options), cutmix=1, paste=1)
    drawn = {mixed.chip for place in range(60) for mixed in careful.draw((0, place, EMPTY)).mixed}
    assert drawn == {1, 3, 4, 6}


def test_the_stage_s_size_is_what_is_drawn_and_read(chips):
    stage = recipe.Stage(input_hw=(40, 64), augment=recipe.Augment(cutmix=1, crop=1))
    found = StageSamples(chips, stage, plan_epochs([0, 1, 2], chips.strata(), 0, stage, 2, 0))
    sample = found.sample((0, 0, TWO))
    assert (sample.image.shape, sample.mask.shape) == ((40, 64, 3), (1, 40, 64))
    boxes = [found.draw((0, place, TWO)).mixed[0].how for place in range(50)]
    assert max(box.left + box.width for box in boxes if isinstance(box, Cutmix)) > 40
    assert np.isfinite(sample.scale)
