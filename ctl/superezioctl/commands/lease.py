"""superezioctl lease: leases by hand."""

from __future__ import annotations

import os

from superezioctl import adoption
from superezioctl.arguments import Command, Option, Positional, UsageError, positive, seconds
from superezioctl.exit_codes import DONE
from superezioctl.lease_ids import lease_id, resolve
from superezioctl.placement_options import LEASE, lease_params

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from superezioctl.context import Context


def list_(context: Context) -> int:
    """List leases and queue."""
    raw = context.call("lease.list")
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import leases  # noqa: PLC0415 - for people only

        leases.show_list(context.out, raw)
    return DONE


def show(context: Context) -> int:
    """Show one lease."""
    (lease,) = resolve(context, [context.arguments["lease"]])
    return _print(context, context.call("lease.get", {"lease": lease}))


def acquire(context: Context) -> int:
    """Lease for a process that already runs, or for a time."""
    raw = _acquire(context)
    if context.arguments["export"] and not context.out.json:
        from superezioctl.views import leases  # noqa: PLC0415 - for shells only

        leases.show_exports(context.out, raw)
    else:
        _print(context, raw)
    _remark(context, raw)
    return DONE


def _remark(context: Context, raw: bytes) -> None:
    """Say what of a lease that was granted may not be as it was meant."""
    import json  # noqa: PLC0415 - not for what is done with leases otherwise

    from superezioctl import remarks  # noqa: PLC0415 - as above

    lease = json.loads(raw)
    remarks.on_priority(context, lease, command="lease acquire")
    if any(context.arguments[key] is not None for key in ("pid", "unit", "container")):
        remarks.on_holder(context, lease, command="lease acquire")


def _acquire(context: Context) -> bytes:
    pid, ttl_s = context.arguments["pid"], context.arguments["ttl"]
    params = {**lease_params(context.arguments), "holder_pid": pid}
    running = adoption.named(context)
    if running is not None:
        if pid is not None or ttl_s is not None:
            raise UsageError("--unit or --container says what holds the lease: no --pid, no --ttl")
        return adoption.acquire(context, running, params, ask=lambda wanted: _ask(context, wanted))
    if pid is None and ttl_s is None:
        raise UsageError(
            "what shall hold the lease? --pid PID, --unit NAME or --container NAME, or --ttl "
            "DURATION and renewals"
        )
    if ttl_s is not None:
        params |= {"mode": "ttl", "ttl_ms": round(ttl_s * 1000)}
    return _ask(context, params)


def _ask(context: Context, params: dict[str, Any]) -> bytes:
    """Ask for the lease, and wait for it where that was asked for."""
    if not params["wait_ms"]:
        return context.call("lease.acquire", params, idempotency_key=os.urandom(16).hex())
    from superezioctl import waiting  # noqa: PLC0415 - for those who wait only

    caller = context.caller()
    try:
        return waiting.acquire(context, caller, params, command="superezioctl lease acquire")
    finally:
        caller.close()


def attach(context: Context) -> int:
    """Bind a further process, or those of a program that is named."""
    pid, running = context.arguments["pid"], adoption.named(context)
    if (pid is None) == (running is None):
        raise UsageError("what shall be bound to it? one of PID, --unit NAME and --container NAME")
    (lease,) = resolve(context, [context.arguments["lease"]])
    if running is not None:
        return _print(context, adoption.attach(context, lease, running))
    return _print(context, context.call("lease.attach", {"lease": lease, "pid": pid}))


def renew(context: Context) -> int:
    """Let a lease last its TTL from now."""
    (lease,) = resolve(context, [context.arguments["lease"]])
    ttl_s = context.arguments["ttl"]
    params = {"lease": lease, "ttl_ms": None if ttl_s is None else round(ttl_s * 1000)}
    return _print(context, context.call("lease.renew", params))


def ready(context: Context) -> int:
    """Say that a program has grown."""
    (lease,) = resolve(context, [context.arguments["lease"]])
    return _print(context, context.call("lease.ready", {"lease": lease}))


def revoke(context: Context) -> int:
    """Order a lease to end."""
    from superezioctl import remarks  # noqa: PLC0415 - not for what is done with leases otherwise

    (lease,) = resolve(context, [context.arguments["lease"]])
    before = remarks.Deadline(context, lease)
    params = {
        "lease": lease,
        "deadline_s": context.arguments["deadline"],
        "reason": context.arguments["reason"] or "",
    }
    raw = context.call("lease.revoke", params)
    _print(context, raw)
    before.compare(raw, command="lease revoke")
    return DONE


def acknowledge(context: Context) -> int:
    """Answer an order to end a lease."""
    (lease,) = resolve(context, [context.arguments["lease"]])
    params = {
        "lease": lease,
        "accept": not context.arguments["refuse"],
        "message": context.arguments["message"],
    }
    return _print(context, context.call("lease.acknowledge", params))


def release(context: Context) -> int:
    """Give back one lease or more; that one was released already is no failure."""
    import json  # noqa: PLC0415 - not for what is done with leases otherwise

    from superezioctl.one_by_one import do_to_each  # noqa: PLC0415 - as above

    def give_back(lease: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(context.call("lease.release", {"lease": lease}))
        return {**answer, "lease": lease}

    return do_to_each(
        context,
        resolve(context, context.arguments["lease"]),
        do=give_back,
        told=lambda answer: (
            f"{answer['lease']} {'released' if answer['released'] else 'was not there any more'}"
        ),
        key="lease",
    )


def _print(context: Context, raw: bytes) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import leases  # noqa: PLC0415 - for people only

        leases.show_one(context.out, raw)
    return DONE


_LEASE = Positional(
    "LEASE",
    "the id of the lease, the beginning of it, or the name of one of yours",
    convert=lease_id,
)

COMMANDS = {
    "lease list": Command(
        list_,
        description="RESERVED and ACTUAL are those of all its GPUs together; `superezioctl lease "
        "show` has each. What belongs to other users is shown as far as your role goes: "
        "`superezioctl access`.",
        examples=["superezioctl lease list", "superezioctl --json lease list | jq .leases"],
    ),
    "lease show": Command(
        show,
        positionals=[_LEASE],
        examples=["superezioctl lease show 3f2a", "superezioctl lease show llama"],
    ),
    "lease acquire": Command(
        acquire,
        options=[
            *LEASE,
            Option(
                "--pid",
                "the process that shall hold the lease; it ends when that does",
                metavar="PID",
                convert=positive,
                more="`superezioctl lease attach` binds further processes to the lease",
            ),
            *adoption.HOLDER,
            Option(
                "--ttl",
                "instead: it ends so long after the grant or the last `lease renew`",
                metavar="DURATION",
                convert=seconds,
            ),
            Option("--export", "print the environment for a shell to eval"),
        ],
        description="For servers and containers that already run, or, with --ttl, for as long as "
        "somebody renews it. To start a command on a leased GPU, `superezioctl run` is simpler."
        "\n\nThe process has to be yours, unless you are an "
        "admin. A program that reads CUDA_VISIBLE_DEVICES only when it starts has to be told "
        "which GPU it got. Of a unit the main process holds the lease, of a container the first "
        "one; what else runs in it counts with that. A service or container that is started anew "
        "is another program, and has no lease.",
        examples=[
            "superezioctl lease acquire --vram 8GiB --unit llama.service",
            "superezioctl lease acquire --vram 8GiB --container whisper --engine podman",
            "superezioctl lease acquire --vram 8GiB --pid 4711",
            'eval "$(superezioctl lease acquire --vram 8GiB --wait 60s --pid $$ --export)"',
            "superezioctl --json lease acquire --vram 8GiB --ttl 60s | jq -r .id",
        ],
    ),
    "lease attach": Command(
        attach,
        options=adoption.HOLDER,
        positionals=[
            _LEASE,
            Positional("PID", "the process to bind to it", convert=positive, optional=True),
        ],
        description="The lease then ends when the last process that is bound to it ends.",
        examples=[
            "superezioctl lease attach 3f2a 4711",
            "superezioctl lease attach 3f2a --unit llama.service",
            "superezioctl lease attach 3f2a --container whisper",
        ],
    ),
    "lease renew": Command(
        renew,
        options=[Option("--ttl", "a TTL for it from now on", metavar="DURATION", convert=seconds)],
        positionals=[_LEASE],
        description="For a lease that was acquired with --ttl: it lasts its TTL from now. Renew it "
        "at least three times per TTL.",
        examples=["superezioctl lease renew 3f2a", "superezioctl lease renew 3f2a --ttl 5m"],
    ),
    "lease ready": Command(
        ready,
        positionals=[_LEASE],
        description="For a lease that was acquired with --sizes-itself: other programs may start "
        "on its GPUs from now, and not only once its use is stable.",
        examples=['superezioctl lease ready "$SUPEREZIO_LEASE"'],
    ),
    "lease revoke": Command(
        revoke,
        options=[
            Option(
                "--deadline",
                "how long its holder has (default: as configured, 30 s)",
                metavar="DURATION",
                convert=seconds,
            ),
            Option("--reason", "why, for its holder and the journal", metavar="TEXT"),
        ],
        positionals=[_LEASE],
        description="Tells the holder that the lease is to end, and takes the lease from it if it "
        "has not ended by the deadline. The daemon ends no process: `superezioctl run` ends what "
        "it started; what others go on using counts as foreign. To revoke it again can only "
        "bring the deadline forward; where the earlier one stands, that is said. Your own leases; "
        "as an admin, anybody's.",
        examples=[
            "superezioctl lease revoke 3f2a --deadline 5m --reason 'a new driver at noon'",
            "superezioctl lease revoke 3f2a --deadline 0s",
        ],
    ),
    "lease acknowledge": Command(
        acknowledge,
        options=[
            Option("--refuse", "say that it will not end; the deadline stands"),
            Option("--message", "what people are to read", metavar="TEXT"),
        ],
        positionals=[_LEASE],
        description="For the holder of a lease that was revoked, or drains because its GPU is "
        "too hot: says that it will end in time.",
        examples=['superezioctl lease acknowledge "$SUPEREZIO_LEASE" --message "saving"'],
    ),
    "lease release": Command(
        release,
        positionals=[
            Positional(
                "LEASE",
                "the ids of the leases, their beginnings, or names of yours",
                convert=lease_id,
                rest=True,
            )
        ],
        description="That a lease was released already is no failure: the exit code is 0. Of "
        "several each is tried; where one fails, the exit code is that of the first that did.",
        examples=["superezioctl lease release 3f2a", "superezioctl lease release 3f2a 81f2"],
    ),
}
