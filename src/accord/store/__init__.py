"""The label store: what waits for a judgement, and every judgement, append-only. No torch here.

SQLite by default, PostgreSQL by URL. `LabelStore` is what judges and the pipeline use; the labelling app
works with the functions of `queue`, `events` and `people` in transactions of its own (`writer`).
"""

from accord.store.database import BUSY_SECONDS, Database
from accord.store.labels import LabelStore, label_id

__all__ = ["BUSY_SECONDS", "Database", "LabelStore", "label_id"]
