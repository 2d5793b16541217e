"""[limits]: what one caller, and all together, may take of the daemon."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from supereziod.config.section import Section

_MIB = 1 << 20


class Limits(Section, frozen=True):
    """What one caller, and all together, may take. The daemon's own connection is exempt."""

    max_frame_bytes: Annotated[
        int, Meta(ge=4096, description="The longest line that is read from a client.")
    ] = field(default=_MIB, name="frame_size")
    max_batch: Annotated[int, Meta(ge=1, description="Requests in one batch.")] = 1000
    connections: Annotated[
        int, Meta(ge=1, description="Connections in all: as many as files may be open, at most.")
    ] = 10_000
    connections_reserved: Annotated[
        int, Meta(ge=0, description="Of these, kept free for admins.")
    ] = 64
    connections_per_uid: Annotated[
        int, Meta(ge=1, description="Connections of one user who is no admin.")
    ] = 6000
    in_flight: Annotated[
        int, Meta(ge=1, description="Requests that are not answered yet, in all ...")
    ] = 20_000
    in_flight_per_uid: Annotated[
        int, Meta(ge=1, description="... of one user who is no admin ...")
    ] = 5_000
    in_flight_per_connection: Annotated[
        int, Meta(ge=1, description="... and of one connection.")
    ] = 256
    subscriptions_per_connection: Annotated[
        int, Meta(ge=1, description="Event subscriptions of one connection ...")
    ] = 16
    subscriptions_per_uid: Annotated[
        int, Meta(ge=1, description="... and of one user who is no admin.")
    ] = 256
    events_per_subscription: Annotated[
        int,
        Meta(
            ge=1,
            description="Events kept for a subscriber that does not read; it is told how many it"
            " lost.",
        ),
    ] = 1024
    write_high_water_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            description="Answers that are sent at once. A client that leaves any of them is not"
            " listened to until it has read them.",
        ),
    ] = 256 * 1024
    write_buffer_bytes: Annotated[
        int, Meta(ge=65536, description="With more than this to read, a client is cut off.")
    ] = 8 * _MIB
    stall_timeout_s: Annotated[
        float, Meta(gt=0, description="A client that reads nothing for so long is cut off.")
    ] = 60.0
    requests_per_second: Annotated[
        int, Meta(ge=1, description="Requests of one user, on average.")
    ] = 20_000
    requests_burst: Annotated[int, Meta(ge=1, description="Requests of one user at once.")] = 20_000
    write_buffer_per_uid_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="With more than this to read over all its connections, those of a user that"
            " have most are cut off, ...",
        ),
    ] = 64 * _MIB
    write_buffer_all_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="... and where all clients together have more than this to read, those of"
            " the user who has most.",
        ),
    ] = 256 * _MIB
    read_buffer_per_uid_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="With more than this of requests that wait to be worked on, or to be sent"
            " to their end, over all its connections, those of a user that have most are cut"
            " off, ...",
        ),
    ] = 64 * _MIB
    read_buffer_all_bytes: Annotated[
        int,
        Meta(
            ge=1 * _MIB,
            description="... and where all clients together have more than this of it, those of"
            " the user who has most.",
        ),
    ] = 256 * _MIB
