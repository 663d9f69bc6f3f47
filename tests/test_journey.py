"""The demo goes the whole way, here with images of 96 pixels and the smallest network, for one short epoch.

Not covered here, since it takes minutes: that its own recipe reaches a Dice of 0.80 in five of them; see `make demo`.
"""

import pytest

from segsmith.errors import RunError
from segsmith.journey import demo
from segsmith.recipe_files import load_recipe, to_yaml


@pytest.fixture
def small(monkeypatch, tmp_path, smallest):
    """The same steps on smaller images with a smaller recipe."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(to_yaml(load_recipe("ships-demo", smallest("ships-demo"))))
    monkeypatch.setattr("segsmith.journey.RECIPE", str(recipe))
    monkeypatch.setattr("segsmith.journey.SIZE", 96)


def test_the_whole_way_and_again(small, tmp_path):
    said, steps = [], []
    done = demo(tmp_path / "demo", images=40, watch=steps.append, say=said.append)

    assert [line.split()[:2] for line in said] == [
        ["1", "make"], ["2", "inspect:"], ["3", "train:"], ["4", "decide:"], ["5", "evaluate:"], ["6", "predict:"],
    ]  # fmt: skip
    assert done.inspection.profile.labelled == 40
    assert done.evaluation.part == "held_out"
    assert done.prediction.images == 4
    assert steps[-1].epoch_is_over
    for path in (done.report, done.inspection.folder / "report.html", done.prediction.folder / "submission.csv"):
        assert path.is_relative_to(tmp_path / "demo")
        assert path.stat().st_size > 0
    sample = (tmp_path / "demo" / "raw" / "sample_submission_v2.csv").read_text().splitlines()
    handed_in = (done.prediction.folder / "submission.csv").read_text().splitlines()
    assert list(dict.fromkeys(line.split(",")[0] for line in handed_in)) == [line.split(",")[0] for line in sample]

    raw = {path: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "raw").rglob("*.jpg")}
    steps.clear()
    again = demo(tmp_path / "demo", images=40, watch=steps.append)
    assert again.evaluation.scores == done.evaluation.scores
    assert not steps, "trained once"
    assert {path: path.stat().st_mtime_ns for path in raw} == raw, "made once"

    with pytest.raises(RunError, match="choose another"):
        demo(tmp_path / "demo", images=40, seed=1)
