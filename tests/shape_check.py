"""The type checker of the test run: beartype, which is told to take `Self` for any type.

The import hook checks function by function and so never sees the class that `Self` stands for.
"""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any})))
