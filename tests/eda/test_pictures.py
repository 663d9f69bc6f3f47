import base64

import cv2
import numpy as np
import pytest

from segsmith.eda.pictures import FALSE_ALARM, HIT, MISSED, RED, error_overlay, image_uri, outlined, panels, red_overlay

rng = np.random.default_rng(3)


def noise(height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    filled = np.zeros((height, width), bool)
    filled[rows, columns] = True
    return filled


def decoded(uri: str) -> np.ndarray:
    """The RGB pixels of a data URI."""
    _, data = uri.split(";base64,")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert pixels is not None
    return np.asarray(pixels)


def painted(colour: tuple[int, int, int], grey: int) -> list[int]:
    return [round(0.25 * grey + 0.75 * part) for part in colour]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((768, 768), (300, 300)), ((256, 1600), (48, 300)), ((1000, 1), (300, 1)), ((90, 101), (90, 101))],
)
def test_an_image_is_shrunk_to_the_longest_side_never_enlarged(size: tuple[int, int], shown: tuple[int, int]) -> None:
    uri = image_uri(np.full((*size, 3), (200, 100, 50), np.uint8), max_side=300)
    assert uri.startswith("data:image/webp;base64,")
    pixels = decoded(uri)
    assert pixels.shape[:2] == shown
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 8, "red and blue stay in their places"


def test_a_tiny_image_is_enlarged_pixel_by_pixel() -> None:
    image = noise(101, 90)
    uri = image_uri(image, enlarge=3)
    assert uri.startswith("data:image/png;base64,")
    pixels = decoded(uri)
    assert pixels.shape == (303, 270, 3)
    for row in range(3):
        assert np.array_equal(pixels[row::3, 2::3], image)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Received: shape \(0, 5, 3\)"):
        image_uri(np.zeros((0, 5, 3), np.uint8))


def test_an_outline_runs_around_the_mask_and_hides_nothing_of_it() -> None:
    image = noise(100, 120)
    before = image.copy()
    object_ = mask(100, 120, slice(40, 50), slice(60, 61))
    drawn = outlined(image, object_, (1, 2, 3))
    ring = mask(100, 120, slice(39, 51), slice(59, 62)) & ~object_
    assert np.array_equal(image, before)
    assert (drawn[ring] == (1, 2, 3)).all()
    assert np.array_equal(drawn[~ring], image[~ring])


def test_an_outline_is_wider_on_a_larger_image() -> None:
    drawn = outlined(np.zeros((1024, 300, 3), np.uint8), mask(1024, 300, slice(500, 501), slice(100, 101)), (9, 9, 9))
    assert (drawn[500, 96:105, 0] == [9, 9, 9, 9, 0, 9, 9, 9, 9]).all()
    assert not drawn[500, 95].any()


def test_a_mask_that_fills_the_image_is_outlined_along_its_edge() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    drawn = outlined(image, np.ones((20, 30), bool), (7, 7, 7))
    assert (drawn[[0, -1]] == 7).all()
    assert (drawn[:, [0, -1]] == 7).all()
    assert not drawn[1:-1, 1:-1].any()


def test_an_empty_mask_has_no_outline() -> None:
    image = noise(20, 30)
    assert np.array_equal(outlined(image, np.zeros((20, 30), bool)), image)


def test_errors_have_their_colours_and_the_rest_is_grey() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    image[0] = (255, 0, 0)
    truth, prediction = mask(4, 4, slice(1, 3), slice(0, 2)), mask(4, 4, slice(1, 3), slice(1, 3))
    overlay = error_overlay(image, truth, prediction)
    assert overlay[1, 1].tolist() == painted(HIT, 100)
    assert overlay[1, 2].tolist() == painted(FALSE_ALARM, 100)
    assert overlay[1, 0].tolist() == painted(MISSED, 100)
    assert overlay[3, 3].tolist() == [100, 100, 100]
    assert overlay[0, 0].tolist() == [76, 76, 76], "the brightness of pure red"
    assert image[1, 1].tolist() == [100, 100, 100], "the image itself is left alone"


def test_colours_of_errors_stay_apart_in_grey() -> None:
    lightness = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in (FALSE_ALARM, HIT, MISSED)]
    assert lightness[0] + 30 < lightness[1]
    assert lightness[1] + 30 < lightness[2]


def test_red_lies_over_the_prediction_alone() -> None:
    image = noise(20, 30)
    predicted = mask(20, 30, slice(5, 9), slice(5, 9))
    drawn = red_overlay(image, predicted)
    assert np.array_equal(drawn[~predicted], image[~predicted])
    assert drawn[6, 6].tolist() == np.rint(0.5 * image[6, 6] + 0.5 * np.array(RED)).tolist()


@pytest.mark.parametrize(("height", "width", "stacked"), [(101, 101, False), (200, 300, False), (256, 1600, True)])
def test_panels_show_image_truth_prediction_and_errors(height: int, width: int, stacked: bool) -> None:
    image = noise(height, width)
    truth = mask(height, width, slice(10, 30), slice(20, 60))
    prediction = mask(height, width, slice(10, 40), slice(20, 50))
    shown = panels(image, truth, prediction)
    down, across = (4, 1) if stacked else (2, 2)
    gap = (shown.shape[0] - down * height) // (down - 1)
    assert 2 <= gap <= 0.02 * max(height, width)
    assert shown.shape == (down * height + (down - 1) * gap, across * width + (across - 1) * gap, 3)
    found = [
        shown[row * (height + gap) :][:height, column * (width + gap) :][:, :width]
        for row in range(down)
        for column in range(across)
    ]
    expected = [
        image, outlined(image, truth), red_overlay(image, prediction), error_overlay(image, truth, prediction),
    ]  # fmt: skip
    for left, right in zip(found, expected, strict=True):
        assert np.array_equal(left, right)
    assert (shown[height : height + gap] == 255).all()
    assert (shown[:, width : width + gap] == 255).all() or stacked
