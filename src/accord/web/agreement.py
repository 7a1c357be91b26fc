"""Where the app's figures of agreement come from: the one seam to `accord.diagnostics.agreement`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accord.diagnostics import agreement


def kappa(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Cohen's κ of two people on the items that both judged; None where it is not defined.

    Landis and Koch's words for it are not used: what is enough depends on the question.
    """
    if not a:
        return None
    return _finite(agreement.cohens_kappa(a, b))


def alpha(labels: Sequence[tuple[str, str, str]]) -> float | None:
    """Krippendorff's nominal α of (item, annotator, verdict); None where nothing can be compared."""
    return _finite(agreement.krippendorff_alpha(labels, level="nominal"))


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
