"""Where the tree and the build are. RUKUN_BUILD names another build folder."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RUKUN_BUILD", ROOT / "build" / "release"))
