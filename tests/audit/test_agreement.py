"""Masks on their images -> whether they belong there: what was swapped or transposed does not."""

import numpy as np
import pytest
from patches import picture

from segsmith.audit.agreement import LEAST, Agreement, agreements
from segsmith.audit.audit_masks import TURNS
from segsmith.audit.foreground_odds import Thumbnail, thumbnail

COUNT = 240
SWAPPED = (101, 150)
TRANSPOSED = 201


def pictures() -> dict[int, Thumbnail]:
    made = [picture(number) for number in range(COUNT)]
    masks = [mask for _, mask in made]
    masks[SWAPPED[0]], masks[SWAPPED[1]] = masks[SWAPPED[1]], masks[SWAPPED[0]]
    masks[TRANSPOSED] = np.ascontiguousarray(masks[TRANSPOSED].T)
    return {n: thumbnail(image[:, :, None], mask) for n, ((image, _), mask) in enumerate(zip(made, masks, strict=True))}


@pytest.fixture(scope="module")
def found() -> dict[int, Agreement]:
    return dict(agreements(pictures()))


def test_masks_of_other_images_and_turned_ones_belong_least(found):
    known = {number: fit.belongs for number, fit in found.items() if np.isfinite(fit.belongs)}
    wrong = {*SWAPPED, TRANSPOSED}
    assert set(sorted(known, key=known.__getitem__)[:3]) == wrong
    assert max(known[number] for number in wrong) < 0
    assert np.median(list(known.values())) > 1


def test_a_transposed_mask_belongs_when_it_is_turned_back(found):
    back = found[TRANSPOSED].turned[list(TURNS).index("read along the rows")]
    assert back > 0 > found[TRANSPOSED].belongs


def test_what_has_no_outline_has_a_likelihood_alone(found):
    assert np.isnan(found[4].belongs)
    assert 0 > found[4].likelihood > found[SWAPPED[0]].likelihood


def test_of_few_images_nothing_is_learnt():
    some = pictures()
    assert not list(agreements({number: some[number] for number in range(LEAST - 1)}))
