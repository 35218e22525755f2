"""What a user should know of a choice that was made for them: one line on stderr."""

import os
import sys


def note(message: str) -> None:
    """Say ``message``; of several processes that compute together, the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"etad-bench: {message}", file=sys.stderr, flush=True)
