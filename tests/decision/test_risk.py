"""The promise of a miss rate, held against many new images; its level and costs, by hand."""

import numpy as np
import pytest

from segsmith.decision.risk import MissRates, dial


def rates(images) -> MissRates:
    return sum((MissRates.of_image(plane, truth) for plane, truth in images), MissRates.of_none())


def image(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of a network that is sometimes right, sometimes blind."""
    truth = np.zeros((1, 20), bool)
    truth[0, : rng.integers(1, 20)] = True
    skill = rng.choice([-40, 40, 90])
    return np.clip(rng.normal(100 + skill * truth, 40), 0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def population() -> list[MissRates]:
    rng = np.random.default_rng(0)
    return [MissRates.of_image(*image(rng)) for _ in range(500)]


@pytest.mark.parametrize(("images", "miss_rate"), [(10, 0.2), (25, 0.1), (60, 0.3)])
def test_the_share_missed_of_new_images_is_what_was_promised(population, images, miss_rate):
    """Over 400 validation folds drawn from a population, each with all of it as new images: the mean is below the rate,
    but for chance, and not far below it, so the promise is not bought with a level of 0."""
    missed = np.mean([one.missed for one in population], axis=0)  # by level, of a new image
    rng = np.random.default_rng(images)
    found = []
    for _ in range(400):
        fold = rng.integers(0, len(population), images)
        level, _ = dial(sum((population[one] for one in fold), MissRates.of_none()), miss_rate)
        found.append(missed[level])
    chance = 3 * np.std(found) / np.sqrt(len(found))
    assert np.mean(found) <= miss_rate + chance
    assert np.mean(found) >= miss_rate - 1.5 / (images + 1) - chance


def test_the_level_and_its_cost_by_hand():
    truth = np.array([[True, True, False, False]])
    images = [(np.array([[200, 100, 100, 0]], np.uint8), truth)] * 9
    images += [
        (np.array([[0, 0, 150, 50]], np.uint8), np.zeros_like(truth)),
        (np.zeros((1, 4), np.uint8), ~truth[:, :0]),
    ][:1]
    level, found = dial(rates(images), 0.1)  # (0 + 1) / 10: nothing may be missed
    assert level == 100
    assert (found.images, found.missed, found.false_alarms) == (9, 0, 1)
    assert found.wrong_pixels == pytest.approx((9 + 1) / (27 + 1))
    level, found = dial(rates(images), 0.55)  # (9 x 0.5 + 1) / 10
    assert (level, found.missed, found.false_alarms, found.wrong_pixels) == (200, 0.5, 0, 0)


def test_of_too_few_images_nothing_is_promised_but_everything_marked():
    plane, truth = np.full((2, 2), 255, np.uint8), np.ones((2, 2), bool)
    assert dial(rates([(plane, truth)] * 18), 0.05)[0] == 0
    assert dial(rates([(plane, truth)] * 19), 0.05)[0] == 255, "1 / 20"
    level, found = dial(MissRates.of_none(), 0.05)
    assert (level, found.missed, found.false_alarms, found.wrong_pixels) == (0, None, None, None)
