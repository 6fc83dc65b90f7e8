import os
from pathlib import Path

import numpy as np
import pytest

# Where tests run side by side (-n), threads that wait for each other would keep the cores busy.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _find_data():
    given = os.environ.get("SKLEARN_CXR_DATA")
    if given:
        return Path(given)
    return Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    # random_state=None then means the same in every run, in fixtures too.
    np.random.seed(0)  # noqa: NPY002 - the global generator is what this is about


@pytest.fixture(scope="session")
def data_root():
    """Folder with the real images (``chest_xray`` and ``nih``), or a skip that says why."""
    root = _find_data()
    if not (root / "chest_xray").is_dir() or not (root / "nih").is_dir():
        pytest.skip(
            f"no chest_xray and nih folders in {root}; set SKLEARN_CXR_DATA to run on real images"
        )
    return root
