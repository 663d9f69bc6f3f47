"""Noise from a table is Gaussian, independent enough, and counted."""

import math

import numpy as np
import pytest

from segsmith.samples.noise import TABLE, noisy


@pytest.mark.parametrize("sigma", [0.7, 4.0, 20.0])
@pytest.mark.parametrize("bands", [1, 3, 12])
def test_noise_is_normal_and_unlike_from_row_to_row_and_band_to_band(sigma, bands):
    grey = np.full((128, 128, bands), 128, np.uint8)
    noise = noisy(grey, sigma, 5).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.1 * sigma)
    assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.03)  # levels are whole
    within = math.ceil(sigma)
    assert (np.abs(noise) < within).mean() == pytest.approx(math.erf((within - 0.5) / sigma / 2**0.5), abs=0.02)
    pairs = [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]
    for one, other in pairs + [(noise[..., 0], noise[..., -1])] * (bands > 1):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_seeds_differ_and_repeat():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert (noisy(image, 5.0, 1) == noisy(image, 5.0, 1)).all()
    assert (noisy(image, 5.0, 1) != noisy(image, 5.0, 2)).mean() > 0.5


def test_levels_stop_at_black_and_white_and_rows_may_outgrow_the_table():
    wide = np.zeros((2, TABLE + 5, 1), np.uint8)
    wide[1] = 255
    found = noisy(wide, 10.0, 0)
    assert (found[0].min(), found[1].max()) == (0, 255)
    assert 0 < found[0].max() < 60
    assert (found[0] == 0).mean() == pytest.approx(0.52, abs=0.02)
