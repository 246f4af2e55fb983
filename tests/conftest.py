from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled scans, where they are present."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real scans in ../shared/data, absent here")
    return folder


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Reference numbers of the paper's network and kernel VAE, where they are present."""
    folder = REPOSITORY.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("needs the reference numbers in ../shared/vectors, absent here")
    return folder
