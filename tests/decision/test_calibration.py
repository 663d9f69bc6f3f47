"""Temperatures that are known, because the pixels were drawn by them."""

import numpy as np
import pytest
from scipy.special import expit, logit

from segsmith.decision.calibration import Calibration, calibrated_levels


def drawn(temperature: float, pixels: int = 400_000, seed: int = 0) -> Calibration:
    """Of pixels whose logits are `temperature` times too far from 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, pixels)
    truth = rng.random(pixels) < expit(logits)
    levels = np.rint(255 * expit(logits * temperature)).astype(np.uint8)
    half = Calibration.of_no_pixel().with_pixels(levels[::2], truth[::2])
    return half.with_pixels(levels[1::2], truth[1::2])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_temperature_is_found_and_mends_what_is_off(temperature):
    calibration = drawn(temperature)
    found = calibration.temperature()
    assert found == pytest.approx(temperature, rel=0.03)
    assert calibration.loss(found) <= min(calibration.loss(at) for at in (0.3, 0.9, 1.0, 1.1, 3.0))
    assert calibration.error(found) < 0.005
    assert calibration.error() > 0.03 or temperature == 1


def test_the_error_by_hand():
    levels = np.array([51, 51, 51, 51, 204, 204], np.uint8)  # 0.2 and 0.8
    truth = np.array([0, 0, 1, 1, 1, 1], bool)
    calibration = Calibration.of_no_pixel().with_pixels(levels, truth)
    assert calibration.bins() == pytest.approx(np.array([[0.2, 0.5, 4 / 6], [0.8, 1, 2 / 6]]))
    assert calibration.error() == pytest.approx(4 / 6 * 0.3 + 2 / 6 * 0.2)
    expected = -(2 * np.log(0.8) + 2 * np.log(0.2) + 2 * np.log(0.8)) / 6
    assert calibration.loss() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_no_pixel_overtakes_another(temperature):
    levels = calibrated_levels(temperature).astype(int)
    assert (np.diff(levels) >= 0).all()
    assert levels[128] == pytest.approx(128, abs=1)
    assert levels[230] == round(255 * float(expit(logit(230 / 255) / temperature)))
    assert temperature != 1 or levels[1:-1].tolist() == list(range(1, 255))


@pytest.mark.parametrize("truth", [False, True])
def test_of_one_kind_of_pixel_nothing_can_be_said(truth):
    calibration = Calibration.of_no_pixel().with_pixels(np.array([9, 200], np.uint8), np.array([truth, truth]))
    assert calibration.temperature() == 1


def test_what_is_written_is_read():
    calibration = drawn(1.4, 1000)
    again = Calibration.from_plain(calibration.plain())
    assert (again.pixels == calibration.pixels).all()
    assert calibration.plain()["expected_calibration_error"]["before"] == calibration.error()
