"""Users as they are named on the command line: by name or by number."""

from __future__ import annotations

from superezioctl.arguments import Option


def uid_of(text: str) -> int:
    """Read a user's number or name, or raise ValueError."""
    import pwd  # noqa: PLC0415 - for admins only

    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"this host has no user {text!r}") from None


def whose(summary: str) -> Option:
    """Return the option by which an admin says whose it is."""
    return Option(
        "--uid", f"{summary} (admins; name or number)", metavar="USER", convert=uid_of,
        formerly="--user",
    )  # fmt: skip
