"""How hypothesis looks for counterexamples: the same ones every time where CI says so."""

import os

from hypothesis import settings

settings.register_profile(
    "flc",
    deadline=None,  # A busy machine is no counterexample.
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("flc")
