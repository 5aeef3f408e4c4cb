"""What is kept of images that were built: what may be in use, and the newest few."""

import os
import time
from pathlib import Path

from tests.cluster.baseimage import remove_old

HOUR = 3600


def test_the_newest_and_what_may_be_in_use_stay(tmp_path: Path) -> None:
    ages = {"now": 0, "lately": HOUR / 2, "earlier": 2 * HOUR, "yesterday": 24 * HOUR, "long ago": 99 * HOUR}
    for name, age in ages.items():
        path = tmp_path / name
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    gone = tmp_path / "removed by another"
    remove_old([*tmp_path.iterdir(), gone], 3)
    assert {path.name for path in tmp_path.iterdir()} == {"now", "lately", "earlier"}
    remove_old(tmp_path.iterdir(), 0)
    assert {path.name for path in tmp_path.iterdir()} == {"now", "lately"}
