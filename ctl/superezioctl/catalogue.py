"""All commands on one page: name, home, and what it does."""

from __future__ import annotations

#: Name -> (module in superezioctl.commands, summary). The module's COMMANDS has the rest, so that
#: a command costs its own imports and no others.
CATALOGUE = {
    "status": ("status", "Show the verdict, the GPUs, the leases and the queue on one screen"),
    "top": ("top", "Watch GPUs, leases, processes and queue live, and act on them by key"),
    "health": ("health", "Say whether the host is healthy, and if not, why and what to do"),
    "doctor": ("doctor", "Say what is missing on this host, and the command that mends it"),
    "gpu list": ("gpu", "List the GPUs, with what may be leased on each"),
    "gpu show": ("gpu", "Show all that is known of one GPU"),
    "gpu history": ("gpu", "Show temperature, power, load and VRAM of the last minutes or hours"),
    "gpu processes": ("gpu", "List the processes on the GPUs, with their VRAM and lease"),
    "gpu cordon": ("gpu_admin", "Let no new lease onto a GPU"),
    "gpu uncordon": ("gpu_admin", "Undo gpu cordon"),
    "gpu detach": ("gpu_admin", "Let go of the driver, to reset a GPU or unload the driver"),
    "gpu attach": ("gpu_admin", "Take up the driver again"),
    "run": ("run", "Run a command on a leased GPU"),
    "model list": ("model", "List the model servers that systemd runs, and their leases"),
    "model check": ("model", "Say what is wrong with the files of models"),
    "model run": ("model", "Run a model server as its file says, under a lease"),
    "guard": ("guard", "Run a command that calls a service, as one of all that call it"),
    "explain": ("explain", "Say where a lease would go now, and why"),
    "queue": ("queue", "List those who wait for a lease, and why they do"),
    "queue cancel": ("queue", "Take acquires out of the queue"),
    "lease list": ("lease", "List the leases and the queue"),
    "lease show": ("lease", "Show one lease"),
    "lease acquire": ("lease", "Lease VRAM for a process that already runs, or for a time"),
    "lease attach": ("lease", "Bind a further process to a lease"),
    "lease renew": ("lease", "Let a lease with a TTL last longer"),
    "lease revoke": ("lease", "Order a lease to end by a deadline"),
    "lease acknowledge": ("lease", "Answer an order to end a lease"),
    "lease ready": ("lease", "Say that the program of a lease has grown to its size"),
    "lease release": ("lease", "Give leases back"),
    "lease quota": ("quota", "Show how much you may have leased, and have"),
    "breaker list": ("breaker", "List the circuit breakers that you may use"),
    "breaker show": ("breaker", "Show all that is known of one breaker"),
    "breaker open": ("breaker", "Have a breaker reject every call"),
    "breaker close": ("breaker", "Have a breaker let calls through again"),
    "breaker disable": ("breaker", "Have a breaker let every call through and count none"),
    "breaker reset": ("breaker", "Have a breaker begin anew, with nothing recorded"),
    "cache stats": ("cache", "Show what is cached, how much of it, and how often it served"),
    "cache get": ("cache", "Print the value of a key"),
    "cache set": ("cache", "Set the value of a key"),
    "cache delete": ("cache", "Delete a key, or all values with a tag"),
    "cache clear": ("cache", "Delete all of a namespace"),
    "limit list": ("limit", "List the rate limits, and what is left of each"),
    "limit show": ("limit", "Show one rate limit"),
    "limit reset": ("limit", "Have all of a rate limit there again"),
    "events": ("events", "Follow what changes: GPUs, leases, health"),
    "logs": ("logs", "Show what the daemon logged of a request, a lease or a GPU"),
    "metrics": ("metrics", "Print figures for a monitoring system, as Prometheus reads them"),
    "trace": ("trace", "Show what became of a request, or find slow and failed ones"),
    "session list": ("session", "List the sessions, and what was used in each"),
    "access": ("access", "Show who may call what, and what of others is visible"),
    "wait": ("system", "Wait until the daemon answers and knows its GPUs"),
    "config show": ("config", "Show the configuration in force, and where each value was set"),
    "config check": ("config", "Check configuration files, and tell every mistake"),
    "config diff": ("config", "Show what the files say that is not in force"),
    "reload": ("system", "Let the daemon read its configuration again"),
    "log-level": ("system", "Show or set the daemon's log level"),
    "rpc": ("rpc", "Make a raw call"),
    "completion": ("completion", "Print the script by which a shell completes superezioctl"),
    "version": ("system", "Show the versions of superezioctl and of the daemon"),
}


def families() -> dict[str, list[str]]:
    """Return the names of the commands that share a first word, by that word."""
    found: dict[str, list[str]] = {}
    for name in CATALOGUE:
        first, _, second = name.partition(" ")
        if second:
            found.setdefault(first, []).append(name)
    return found
