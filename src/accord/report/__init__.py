"""One self-contained HTML page (and the same as JSON) for a run: is it better, is it hacked, what next?"""

from accord.report.build import build

__all__ = ["build"]
