import logging

import pytest
import torch
from hypothesis import settings

# Deadlines would be luck on two busy cores; the same cases every time make failures repeatable.
settings.register_profile("rnafm", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("rnafm")

# Two threads on tiny tensors mostly wait for each other, a hundredfold on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _quiet_package():
    """A verb shows the package's messages for the rest of the process: not in the next test."""
    yield
    logging.getLogger("rnafm").handlers = []
