"""The private module that SWIG makes of rukun.h; the layer around it has the types."""

from typing import Any

def __getattr__(name: str) -> Any: ...
