"""superezioctl lease: leases by hand."""

from __future__ import annotations

import os

from superezioctl.arguments import Command, Option, Positional, positive
from superezioctl.exit_codes import DONE
from superezioctl.lease_ids import lease_id, resolve
from superezioctl.placement_options import LEASE, lease_params, wait_s

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    """Lease for a process that already runs."""
    params = {**lease_params(context.arguments), "holder_pid": context.arguments["pid"]}
    raw = context.call(
        "lease.acquire",
        params,
        wait_s=wait_s(context.arguments),
        idempotency_key=os.urandom(16).hex(),
    )
    if context.arguments["export"] and not context.out.json:
        from superezioctl.views import leases  # noqa: PLC0415 - for shells only

        leases.show_exports(context.out, raw)
        return DONE
    return _print(context, raw)


def attach(context: Context) -> int:
    """Bind a further process."""
    (lease,) = resolve(context, [context.arguments["lease"]])
    params = {"lease": lease, "pid": context.arguments["pid"]}
    return _print(context, context.call("lease.attach", params))


def release(context: Context) -> int:
    """Give back one lease or more; that one is gone already is no failure."""
    found = [
        (lease, context.call("lease.release", {"lease": lease}))
        for lease in resolve(context, context.arguments["lease"])
    ]
    if context.out.json:
        joined = b",".join(raw for _, raw in found)
        context.out.document(found[0][1] if len(found) == 1 else b"[%b]" % joined)
        return DONE
    import json  # noqa: PLC0415 - for people only

    for lease, raw in found:
        was_there = json.loads(raw)["released"]
        context.out.line(f"{lease} {'released' if was_there else 'was not there any more'}")
    return DONE


def _print(context: Context, raw: bytes) -> int:
    if context.out.json:
        context.out.document(raw)
    else:
        from superezioctl.views import leases  # noqa: PLC0415 - for people only

        leases.show_one(context.out, raw)
    return DONE


_LEASE = Positional("LEASE", "the id of the lease, or the beginning of it", convert=lease_id)

COMMANDS = {
    "lease list": Command(
        list_,
        description="What belongs to other users is shown as far as your role goes: "
        "`superezioctl access`.",
        examples=["superezioctl lease list", "superezioctl --json lease list | jq .leases"],
    ),
    "lease show": Command(
        show,
        positionals=[_LEASE],
        examples=["superezioctl lease show 3f2a"],
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
                required=True,
            ),
            Option("--export", "print the environment for a shell to eval"),
        ],
        description="For servers and containers that already run. To start a command on a leased "
        "GPU, `superezioctl run` is simpler.\n\nThe process has to be yours, unless you are an "
        "admin. A program that reads CUDA_VISIBLE_DEVICES only when it starts has to be told "
        "which GPU it got.",
        examples=[
            "superezioctl lease acquire --vram 8GiB --pid 4711",
            'eval "$(superezioctl lease acquire --vram 8GiB --wait 60s --pid $$ --export)"',
        ],
    ),
    "lease attach": Command(
        attach,
        positionals=[
            _LEASE,
            Positional("PID", "the process to bind to it", convert=positive),
        ],
        description="The lease then ends when the last process that is bound to it ends.",
        examples=[
            "superezioctl lease attach LEASE $(podman inspect -f '{{.State.Pid}}' whisper)",
        ],
    ),
    "lease release": Command(
        release,
        positionals=[
            Positional(
                "LEASE", "the ids of the leases, or their beginnings", convert=lease_id, rest=True
            )
        ],
        description="A lease that is gone already is no failure: the exit code is 0.",
        examples=["superezioctl lease release 3f2a"],
    ),
}
