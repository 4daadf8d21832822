"""Groups of commands whose main command needs no name: `kinema flow INDEX`."""

import typer
from typer.core import TyperGroup


def unless_named(command: str) -> type[TyperGroup]:
    """Return a group in which `command` is run where the first word is no command's name."""

    class UnlessNamed(TyperGroup):
        """Puts the name of the main command in."""

        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
            named = bool(args) and args[0] in self.commands
            return super().parse_args(ctx, args if named else [command, *args])

    return UnlessNamed
