"""What holds for the whole suite."""

from hypothesis import settings

# Nothing is timed here: on a busy machine any example may take longer than hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
