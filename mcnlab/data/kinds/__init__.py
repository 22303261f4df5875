"""A set of named kinds: classes whose names say how they resemble each other, and pictures that may mislead."""

from mcnlab.data.kinds.build import build_kinds, kinds_fingerprint
from mcnlab.data.kinds.settings import KindSettings

__all__ = ["KindSettings", "build_kinds", "kinds_fingerprint"]
