"""What a table says of an object, against boxes that were drawn."""

import cv2
import numpy as np
import pytest

from segsmith.delivery.object_table import HEADER, object_rows


@pytest.mark.parametrize("angle", [0, 30, 90, 150])
def test_area_score_and_box_of_a_turned_box(angle):
    centre, sides = (60.0, 40.0), (50.0, 14.0)
    fine = np.zeros((800, 1200), np.uint8)
    corners = cv2.boxPoints(((centre[0] * 10, centre[1] * 10), (sides[0] * 10, sides[1] * 10), -angle))
    cv2.fillConvexPoly(fine, np.rint(corners).astype(np.int32), 1)
    mask = cv2.resize(fine * 255, (120, 80), interpolation=cv2.INTER_AREA) >= 128
    levels = np.full(mask.shape, 51, np.uint8)
    levels[:, 60:] = 102
    (row,) = object_rows("a.jpg", "ship", mask.astype(np.int32), levels)
    assert row[:3] == ("a.jpg", "ship", 1)
    assert row.area_px == mask.sum()
    assert row.score == pytest.approx(levels[mask].mean() / 255, abs=1e-4)
    assert (row.x_px, row.y_px) == pytest.approx(centre, abs=0.6)
    assert (row.length_px, row.width_px) == pytest.approx(sides, abs=1.5)
    assert min(abs(row.angle_deg - angle), 180 - abs(row.angle_deg - angle)) < 3


def test_a_pixel_is_a_box_of_its_own_size_and_objects_are_numbered_down_the_columns():
    labels = np.zeros((5, 9), np.int32)
    labels[1, 7], labels[3:5, 1], labels[0, 4] = 1, 2, 3
    rows = object_rows("a", "ship", labels, np.full(labels.shape, 255, np.uint8))
    assert [(row.object, row.area_px, row.x_px, row.y_px) for row in rows] == [
        (1, 2, 1.5, 4.0),
        (2, 1, 4.5, 0.5),
        (3, 1, 7.5, 1.5),
    ]
    assert [(row.length_px, row.width_px) for row in rows] == [(2, 1), (1, 1), (1, 1)]
    assert rows[0].angle_deg == 90
    assert all(0 <= row.angle_deg < 180 and row.score == 1 for row in rows)
    assert object_rows("a", "ship", np.zeros((2, 2), np.int32), np.zeros((2, 2), np.uint8)) == []
    assert HEADER[:3] == ("image_id", "class", "object")
