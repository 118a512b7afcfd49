"""How much the tests search: a check tries the same examples each time, the night others, and more.

`CHECK_TIMES=10 scripts/check` searches ten times as long, and draws anew. So a check takes minutes,
and stays as it was where nothing has changed.
"""

import os

TIMES = int(os.environ.get("CHECK_TIMES", "1"))

EXAMPLES = 50 * TIMES
"""So many examples hypothesis tries of each claim, unless the claim says how many."""
