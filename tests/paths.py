"""Where tests find files: the checkout, the fixtures in it, and the data beside it, which may be absent."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared"
