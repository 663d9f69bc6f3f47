"""What another hour would bring: known laws are found again, wild epochs count little, too little is said to be so."""

import numpy as np
import pandas as pd
import pytest

from segsmith.modeling.next_hour import LEAST_EPOCHS, gains, next_hour, of_epochs

SEEDS = 25


def law(seen, exponent, left):
    return 0.75 + left * (1 - seen**-exponent)


def rows(scores, seconds):
    """Of metrics.csv, as far as it matters here."""
    return pd.DataFrame({"mean_dice": scores, "images": 100, "seconds": seconds / len(scores)})


@pytest.mark.parametrize(("exponent", "left"), [(0.3, 0.1), (0.7, 0.05), (1.0, 0.03), (2.0, 0.002)])
def test_a_law_without_noise_is_found_again(exponent, left):
    seen = np.arange(1, 21) / 20
    true = left * (1 - 3.0**-exponent)
    low, gain, high = gains(seen, law(seen, exponent, left), 3.0)
    assert low <= true <= high
    assert gain == pytest.approx(true, rel=0.1, abs=1e-3)
    assert high - low < 0.3 * true + 2e-3


def test_the_interval_holds_what_it_says():
    """Of 200 curves of known laws with noise: 95 % are meant."""
    hits, widths = [], {0.003: [], 0.012: []}
    for exponent in (0.4, 0.7, 1.0, 1.5):
        left = min(0.06, 0.5 / (16**exponent - 1))
        for noise, of_noise in widths.items():
            for seed in range(SEEDS):
                seen = np.arange(1, 17) / 16
                off = noise * np.random.default_rng(seed).standard_normal(16)
                low, gain, high = gains(seen, law(seen, exponent, left) + off, 3.0)
                assert 0 <= low <= gain <= high
                hits.append(low <= law(3.0, exponent, left) - law(1.0, exponent, left) <= high)
                of_noise.append(high - low)
    assert np.mean(hits) > 0.9
    assert np.mean(widths[0.003]) < np.mean(widths[0.012]) < 0.06, "or it would say nothing"


def test_a_wild_epoch_counts_little():
    seen = np.arange(1, 21) / 20
    scores = law(seen, 0.7, 0.05) + 0.002 * np.random.default_rng(0).standard_normal(20)
    wild = scores.copy()
    wild[14] = 0.1
    assert gains(seen, wild, 3.0) == pytest.approx(gains(seen, scores, 3.0), abs=6e-3)


def test_a_score_that_stands_or_falls_is_expected_to_gain_nothing():
    seen = np.arange(1, 21) / 20
    noise = 0.002 * np.random.default_rng(0).standard_normal(20)
    for scores in (0.7 + noise, 0.7 - 0.05 * seen + noise, np.full(20, 0.389)):
        low, gain, high = gains(seen, scores, 4.0)
        assert low < 1e-3
        assert gain < 4e-3
        assert high < 0.02


def test_no_score_goes_beyond_one():
    seen = np.arange(1, 21) / 20
    low, gain, high = gains(seen, 0.99 + 0.2 * (1 - seen**-0.1), 10.0)
    assert low <= gain <= high < 0.012


def test_many_epochs_are_no_harder_than_few():
    seen = np.arange(1, 2001) / 2000
    scores = law(seen, 0.5, 0.05) + 0.01 * np.random.default_rng(0).standard_normal(2000)
    low, _, high = gains(seen, scores, 3.0)
    assert low <= 0.05 * (1 - 3.0**-0.5) <= high
    assert high - low < 0.02


def test_an_hour_is_as_many_images_as_it_was_fast():
    scores = law(np.arange(1, 13) / 12, 0.7, 0.05)
    for seconds in (1800.0, 7200.0):
        found = of_epochs("mean_dice", rows(scores, seconds))
        assert found.gain == pytest.approx(0.05 * (1 - (1 + 3600 / seconds) ** -0.7), rel=0.1)
    assert str(found) == (
        f"another hour of this is expected to bring mean_dice {found.gain:+.3f} ({found.low:.3f} to {found.high:.3f})"
    )


def test_what_cannot_be_told_is_not():
    scores = law(np.arange(1, 13) / 12, 0.7, 0.05)
    few = of_epochs("mean_dice", rows(scores[: LEAST_EPOCHS - 1], 1800.0))
    assert str(few) == "what another hour would bring cannot be told: 7 epochs are too few, 8 are the least"
    assert "1 epoch is too few" in str(of_epochs("mean_dice", rows(scores[:1], 1800.0)))
    short = of_epochs("mean_dice", rows(scores, 60.0))
    assert short.unsaid == "an hour is 60 times as long as the training, 10 times is the most"
    assert np.isnan(short.gain)


def test_runs_tell_it_where_there_is_something_to_tell(undisturbed, command, tmp_path):
    run, _ = undisturbed
    assert next_hour(run.folder).unsaid == "4 epochs are too few, 8 are the least"
    for name in ("recipe.yaml", "run.json", "folds.csv"):
        (tmp_path / name).write_text((run.folder / name).read_text())
    assert next_hour(tmp_path).unsaid == "there are no epochs yet"
    table = pd.read_csv(run.folder / "metrics.csv")
    more = pd.concat([table] * 4).assign(epoch=range(1, 17), images=16, seconds=300.0)
    more.assign(mean_dice=law(np.arange(1, 17) / 16, 0.7, 0.05)).to_csv(tmp_path / "metrics.csv", index=False)
    told = next_hour(tmp_path)
    assert told.gain == pytest.approx(0.05 * (1 - (1 + 3600 / 4800) ** -0.7), rel=0.1)
    assert f"      {told}\n" in command("runs", tmp_path).out
    assert "another hour" not in command("runs", run.folder).out
