"""Dataset -> groups: every reason joins, reasons chain, and a user's table is read strictly."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsmith.audit.duplicates import Duplicates, Pair
from segsmith.audit.fitting import Fit
from segsmith.audit.groups import connected, make_groups, read_groups
from segsmith.audit.mosaics import Mosaic, Mosaics
from segsmith.data.ingest_rle import ingest
from segsmith.errors import DataError


def twins(*pairs: tuple[int, int]) -> Duplicates:
    return Duplicates(tuple(Pair(a, b, Fit(0, (0, 0), 1.0), True, None) for a, b in pairs), 0)


def mosaic(*images: int) -> Mosaics:
    across = tuple(range(len(images)))
    return Mosaics((Mosaic(images, (0,) * len(images), across),), (), 0, 0)


def test_every_reason_joins_and_reasons_chain(ships):
    dataset = ingest(ships)  # a to g, x, y
    of_user = pd.Series([None, None, None, None, "hall", "hall", None, None, None])
    groups = make_groups(dataset, twins((0, 1)), mosaic(1, 2, 7), of_user)
    assert groups.group.tolist() == [0, 0, 0, 3, 4, 4, 6, 0, 8]
    assert groups.joined == {"duplicates": 2, "mosaics": 3, "user": 2}
    assert (groups.together, groups.largest) == (6, 4)


def test_groups_of_the_index_are_kept(ships):
    dataset = ingest(ships)
    dataset.images["group"] = np.array([0, 1, 1, 3, 4, 5, 6, 7, 8], np.int32)
    assert make_groups(dataset, twins((2, 8))).group.tolist() == [0, 1, 1, 3, 4, 5, 6, 7, 1]


def test_no_reason_leaves_every_image_alone(ships):
    groups = make_groups(ingest(ships))
    assert groups.group.tolist() == list(range(9))
    assert (groups.joined, groups.together, groups.largest) == ({}, 0, 1)


def test_a_table_of_groups_is_read_by_id(ships, tmp_path):
    (tmp_path / "groups.csv").write_text("ImageId,vessel\nx.jpg,A\nb.jpg,A\nc.jpg,\n")
    dataset = ingest(ships)
    groups = make_groups(dataset, of_user=read_groups(dataset, tmp_path / "groups.csv"))
    assert groups.group.tolist() == [0, 1, 2, 3, 4, 5, 6, 1, 8]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ImageId,vessel\nq.jpg,A\n", r"row 2: q\.jpg is not in the dataset"),
        ("ImageId,vessel\na.jpg,A\na.jpg,B\n", r"row 3: a\.jpg stands there twice"),
        ("ImageId\na.jpg\n", "two columns are needed"),
        (None, "no such table"),
    ],
)
def test_a_wrong_table_is_refused(ships, tmp_path, text, said):
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_groups(ingest(ships), tmp_path / "groups.csv")


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=20))
def test_connected_is_the_least_relation_that_holds_all_pairs(pairs):
    reach = np.eye(15, dtype=bool)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = True
    for _ in range(4):
        reach = (reach.astype(int) @ reach) > 0
    assert connected(15, pairs).tolist() == reach.argmax(axis=1).tolist()
