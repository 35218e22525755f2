"""Runs a command as if there were a GPU: ``python -m tests.stand_in etad-bench memory --device cuda --ratio 0.3``.

``STAND_IN_CAPACITY_BYTES`` and ``STAND_IN_CAPABILITY`` in the environment set its memory and its compute capability
("8.0"). Times mean nothing, and neither do values from it. Not possible: torch.compile, and ``etad-bench profile``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.stand_in.stand_in import compile_stand_in, why_not, with_stand_in


def main() -> int:
    """Run the command line's command; return its exit code, or 6 where there can be no stand-in."""
    reason = why_not()
    if reason is not None or len(sys.argv) < 2:
        print(f"python -m tests.stand_in COMMAND...: {reason or 'which command?'}", file=sys.stderr)
        return 2 if reason is None else 6
    with tempfile.TemporaryDirectory() as temporary:
        library = compile_stand_in(Path(temporary))
        capacity = os.environ.get("STAND_IN_CAPACITY_BYTES")
        environment = with_stand_in(library, None if capacity is None else int(capacity))
        # Found where this Python is, as with an environment that is not activated.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
