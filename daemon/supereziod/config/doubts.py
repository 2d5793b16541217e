"""What is no mistake in a configuration, and is told of: somebody may have meant something else."""

from __future__ import annotations

from supereziod.config.host_names import unknown_names
from supereziod.config.loader import Loaded
from supereziod.config.setting import Problem


def doubts(loaded: Loaded) -> list[Problem]:
    """Return what to warn of, with file, line and key.

    Asks the name service, which may block.
    """
    return [*unknown_names(loaded), *shared_with_nobody(loaded)]


def shared_with_nobody(loaded: Loaded) -> list[Problem]:
    """Return the tables of what is shared by a name that say of nobody that he may use it."""
    return [
        Problem(
            origin=origin,
            key=".".join(path),
            message="it is shared with nobody: name its groups or users, or say everyone = true",
        )
        for path, origin in loaded.tables.items()
        if path[1:-1] == ("shared",) and not _is_for_anybody(loaded, path[0], path[-1])
    ]


def _is_for_anybody(loaded: Loaded, section: str, name: str) -> bool:
    # A table without a key is in the file, and not in the configuration.
    shared = getattr(loaded.config, section).shared.get(name)
    return shared is not None and bool(shared.everyone or shared.users or shared.groups)
