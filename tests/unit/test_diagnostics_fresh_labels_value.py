"""The control's difference by hand, paired, with scipy's interval where every prompt has one pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from accord.diagnostics.fresh_labels_value import fresh_labels_value
from accord.records import BadInput


def test_the_difference_is_paired_and_clustered_by_prompt():
    # right: fresh 1, 1, 1, 0; control 1, 0, 0.5 (no margin), 0
    found = fresh_labels_value([1, 2, 3, -1], [2, -1, 0, -2], ["p", "p", "q", "r"], samples=50)
    assert found.figure == pytest.approx(1.5 / 4)
    assert found.evidence == {"fresh": 0.75, "control": 0.375, "pairs": 4}
    assert "75.0%, the equal-label control in 37.5%" in found.sentence


def test_the_interval_and_the_verdict():
    rng = np.random.default_rng(0)
    control = rng.normal(0.2, 1, 300)
    fresh = np.where(rng.random(300) < 0.25, np.abs(control), control)
    found = fresh_labels_value(fresh, control, list(range(300)))
    gap = (fresh > 0).astype(float) - (control > 0)
    expected = stats.t.interval(0.95, 299, gap.mean(), gap.std(ddof=1) / np.sqrt(300))
    assert found.interval == pytest.approx(expected, abs=0.01)
    assert found.verdict == "good"
    assert fresh_labels_value(control, fresh, list(range(300))).verdict == "bad"
    assert fresh_labels_value(control, control, list(range(300))).verdict == "warn"
    with pytest.raises(BadInput, match="give both models the same"):
        fresh_labels_value([1.0], [1.0, 2.0], ["p"])
