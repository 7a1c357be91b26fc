"""Self-contained HTML pages (and the same as JSON and CSV): one run, several compared, one that is going
on.
"""

from accord.report.build import build, checked
from accord.report.compare import compare
from accord.report.live import watch

__all__ = ["build", "checked", "compare", "watch"]
