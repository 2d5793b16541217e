"""The section of the cache, and of the namespaces that users share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from supereziod.config.section import Section, Shared

_KIB, _MIB = 1 << 10, 1 << 20


class SharedNamespace(Shared, frozen=True):
    """A namespace that several users have together, by its name."""

    max_bytes: Annotated[int, Meta(ge=0, description="What it may hold ...")] = field(
        default=64 * _MIB, name="size"
    )
    max_entries: Annotated[int, Meta(ge=0, description="... in so many entries, ...")] = field(
        default=50_000, name="entries"
    )
    guaranteed_bytes: Annotated[
        int, Meta(ge=0, description="... of which no other namespace's growth evicts this much ...")
    ] = 0
    guaranteed_entries: Annotated[
        int, Meta(ge=0, description="... in so many entries; both have to be given.")
    ] = 0

    def __post_init__(self) -> None:
        """Refuse a part that is more than the whole."""
        _check_part("", self.guaranteed_bytes, self.max_bytes)
        _check_part("_entries", self.guaranteed_entries, self.max_entries)


class Cache(Section, frozen=True):
    """Values that programs share. A namespace is private to a user unless it is listed here."""

    max_bytes: Annotated[
        int, Meta(ge=0, description="What all namespaces together may hold ...")
    ] = field(default=256 * _MIB, name="size")
    max_entries: Annotated[int, Meta(ge=0, description="... in so many entries.")] = field(
        default=200_000, name="entries"
    )
    max_value_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="A larger value reaches those who wait for it, and is not kept. In base64 a"
            " value has to fit into limits.frame_size.",
        ),
    ] = field(default=256 * _KIB, name="value_size")
    namespace_bytes: Annotated[
        int, Meta(ge=0, description="What one private namespace may hold ...")
    ] = field(default=64 * _MIB, name="namespace_size")
    namespace_entries: Annotated[int, Meta(ge=0, description="... in so many entries.")] = 50_000
    namespaces_per_uid: Annotated[
        int, Meta(ge=1, description="Private namespaces of one user that are in use, ...")
    ] = 64
    uid_bytes: Annotated[int, Meta(ge=0, description="... what they hold together ...")] = field(
        default=128 * _MIB, name="size_per_uid"
    )
    uid_entries: Annotated[int, Meta(ge=0, description="... in so many entries, ...")] = field(
        default=100_000, name="entries_per_uid"
    )
    uid_guaranteed_bytes: Annotated[
        int, Meta(ge=0, description="... and how much of that no other user's growth evicts ...")
    ] = field(default=8 * _MIB, name="guaranteed_per_uid")
    uid_guaranteed_entries: Annotated[
        int, Meta(ge=0, description="... in so many entries: ...")
    ] = field(default=6_000, name="guaranteed_entries_per_uid")
    guaranteed_uids: Annotated[
        int, Meta(ge=0, description="... for so many users at a time that have something in it.")
    ] = 8
    fills: Annotated[
        int, Meta(ge=1, description="Keys that are fetched at a time, in all, ...")
    ] = 16_384
    fills_per_uid: Annotated[int, Meta(ge=1, description="... by one user ...")] = 2048
    fills_per_connection: Annotated[
        int,
        Meta(
            ge=1,
            description="... and by one connection. Who asks for more fetches without the cache.",
        ),
    ] = 256
    waiters_per_uid: Annotated[
        int, Meta(ge=1, description="Requests of one user that wait for what others fetch.")
    ] = 2048
    key_length: Annotated[int, Meta(ge=1, description="Characters of a key.")] = 512
    tags: Annotated[int, Meta(ge=0, description="Tags of a value ...")] = 16
    tag_length: Annotated[int, Meta(ge=1, description="... and characters of a tag.")] = 128
    max_ttl_s: Annotated[
        float, Meta(gt=0, description="The longest that a value is fresh, or served after that.")
    ] = field(default=30 * 86_400.0, name="ttl_maximum")
    max_wait_s: Annotated[
        float, Meta(gt=0, description="The longest that a caller may wait for another's fetch ...")
    ] = field(default=3600.0, name="wait_maximum")
    max_lead_s: Annotated[
        float, Meta(gt=0, description="... and that it may take for its own.")
    ] = field(default=3600.0, name="lead_maximum")
    shared: dict[str, SharedNamespace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parts that are more than the whole."""
        _check_part("_per_uid", self.uid_guaranteed_bytes, self.uid_bytes)
        _check_part("_entries_per_uid", self.uid_guaranteed_entries, self.uid_entries)
        shared = self.shared.values()
        for what, lower, whole, part in (
            (
                "size",
                "guaranteed_per_uid",
                self.max_bytes,
                self.uid_guaranteed_bytes * self.guaranteed_uids
                + sum(each.guaranteed_bytes for each in shared),
            ),
            (
                "entries",
                "guaranteed_entries_per_uid",
                self.max_entries,
                self.uid_guaranteed_entries * self.guaranteed_uids
                + sum(each.guaranteed_entries for each in shared),
            ),
        ):
            if part > whole:
                raise ValueError(
                    f"what is guaranteed to guaranteed_uids users and to the shared namespaces is"
                    f" {part}, more than {what}, which is {whole}: lower {lower}"
                )


def _check_part(suffix: str, part: int, whole: int) -> None:
    if part > whole:
        raise ValueError(f"guaranteed{suffix} cannot be {part}, which is more than {whole}")
