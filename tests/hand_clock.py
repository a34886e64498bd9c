"""Time that passes when a test says so."""

FETCH = "[_TrainingEpochLoop].train_dataloader_next"


class Time:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds
