"""How the pages of `--help` look: verbs in the order in which one meets them, and flags without a type."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

ORDER = (
    "doctor", "init", "import", "study", "list", "inspect", "verify", "report", "train", "evaluate", "lab", "plan",
    "extract",
)  # fmt: skip
"""The verbs: of the first hour, then of the daily work."""


Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(TyperCommand):
    """A verb whose flags show no type, and whose paths are paths on this machine."""

    def get_params(self, ctx: Any) -> Any:
        """As typer gives them."""
        return _flags_without_type(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, unless a path is an address.

        Raises:
            ConfigError: such as `--out s3://bucket/store`, which would become a folder called `s3:`.
        """
        # only once a verb is run, so that `mcnlab --help` does not wait for it
        from mcnlab.files import refuse_address

        for value in ctx.params.values():
            for path in value if isinstance(value, list | tuple) else (value,):
                if isinstance(path, Path):
                    refuse_address(path)
        return super().invoke(ctx)


class Verbs(TyperGroup):
    """Verbs in our order."""

    def get_params(self, ctx: Any) -> Any:
        """As typer gives them."""
        return _flags_without_type(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs; those without a place in the order as they were declared, at the end."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def verb(app: typer.Typer, example: str, name: str | None = None) -> Callable[[Function], Function]:
    """Make a function a verb, whose help ends with an example.

    Args:
        app: the command, or the group of commands.
        example: a whole line to type.
        name: of the verb; the function's own when None.
    """
    return app.command(name, cls=Verb, epilog=f"Example: {example}")


def _flags_without_type(params: Iterable[Any]) -> list[Any]:
    """The same parameters; newer typers would put <bool> after a flag, as if it wanted a word."""
    params = list(params)
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params
