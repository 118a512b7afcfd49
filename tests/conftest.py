"""What holds for all tests: how counterexamples are looked for, and what signals do.

Hypothesis tries the same examples every time, and others where `search` is told to go on longer.
"""

import signal

from hypothesis import settings

from tests.search import EXAMPLES, TIMES

settings.register_profile(
    "flc",
    deadline=None,  # A busy machine is no counterexample.
    derandomize=TIMES == 1,
    max_examples=EXAMPLES,
    print_blob=True,
)
settings.load_profile("flc")

# Under nohup, or in the background of a script, signals are ignored, and programs keep to that:
# those that a test wants to stop would go on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
