"""Made scenes with footprints -> labels that lie beside their roofs, and what a patchwork shows."""

from dataclasses import replace

import numpy as np
import pytest

from segsmith.audit import audit as audit_module
from segsmith.audit.audit import audit
from segsmith.audit.audit_scenes import PATCH_PX, labels_window, patchwork
from segsmith.data.dataset import Dataset
from segsmith.data.ingest import ingest
from segsmith.data.scenes import make_buildings
from segsmith.data.windows import Window

HW = (384, 320)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One scene labelled well, and one whose labels lie 10 pixels east and 6 or 7 south, a fifth of them missing."""
    raw = tmp_path_factory.mktemp("made") / "scenes"
    make_buildings(raw, areas=1, noisy_areas=1, scenes=1, hw=HW, gsds_m=(0.3,), share=0.2, shift_m=(3.0, -2.0))
    return ingest(raw)


def test_labels_beside_their_roofs_are_found_with_the_length_of_the_shift(scenes):
    (found,) = [one for one in audit(scenes) if one.kind == "label-shift"]
    assert "train_tier_2" in found.path
    down, right = (int(part.split()[0]) for part in found.reason.removeprefix("labels lie ").split(", ")[:2])
    assert abs(down - 2 / 0.3) <= 2
    assert abs(right - 3 / 0.3) <= 2
    assert " px down, " in found.reason
    assert " px right (3." in found.reason
    assert found.window == Window(0, 0, *HW)


def test_a_scene_too_large_to_be_read_is_looked_at_in_windows(scenes, monkeypatch):
    monkeypatch.setattr(audit_module, "TOO_LARGE_PX", HW[0] * HW[1] - 1)
    found = audit(scenes)
    assert "label-shift" in [one.kind for one in found]
    assert "not-audited" not in [one.kind for one in found]


def test_a_patchwork_holds_corners_and_middle(scenes):
    whole = scenes.image(0)
    assert min(HW) < PATCH_PX
    np.testing.assert_array_equal(patchwork(scenes, 0)[: HW[0], : HW[1]], whole)
    assert patchwork(scenes, 0).shape == (3 * HW[0], 3 * HW[1], whole.shape[2])


def test_few_outlines_say_nothing(scenes):
    assert labels_window(scenes, 0) == Window(0, 0, *HW)
    few = replace(scenes, objects=scenes.objects.iloc[:7])
    assert labels_window(few, 0) is None
