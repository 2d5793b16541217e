"""The names that stand in answers as data, and what each means: events, reasons, error members.

They are part of the interface, as kinds of errors are: added to, never renamed. The tests hold
these tables to what the code says.
"""

from __future__ import annotations

from typing import Final

#: Types of events, and when they are told.
EVENT_TYPES: Final[dict[str, str]] = {
    "daemon.started": "The daemon is ready.",
    "daemon.stopping": "It was told to stop; leases stand.",
    "daemon.ended_suddenly": "The run before this one was killed, crashed, or lost its host"
    " (`same_boot` is false). `data` has `previous_pid`, `started_at` and `last_seen`, too.",
    "config.reloaded": "The configuration was read again; `data` lists what applies now and later.",
    "config.refused": "The new configuration is bad; the old one stands.",
    "state.mended": "A file of the daemon's was removed or replaced, and is written anew.",
    "health.changed": "The verdict, or the reasons for it, changed.",
    "host.resumed": "The host slept (`suspended_s`); the GPUs are read again before anything else.",
    "watchdog.withheld": "The host is unhealthy: pings stop, and systemd will restart the daemon.",
    "watchdog.resumed": "Pings go out again before systemd acted.",
    "watchdog.restarted": "An earlier run ended with its pings withheld, and why.",
    "connection.dropped": "The daemon closed a connection that did not behave.",
    "driver.found": "The driver answers.",
    "driver.lost": "The driver is gone or does not answer; no GPU can be read.",
    "probe.started": "A process that reads the GPUs was started.",
    "probe.lost": "A probe ended by itself, fell silent or could not be started.",
    "probe.stuck": "A probe that was told to end is held by a call of the driver.",
    "probe.detached": "The daemon let go of the driver, as asked.",
    "probe.attached": "It took hold of the driver again.",
    "gpu.status": "A GPU answers, went silent, was lost or detached.",
    "gpu.level": "A GPU reached another thermal level.",
    "gpu.fitness": "A GPU came under suspicion, into quarantine, on probation, or is well again.",
    "gpu.xid": "The driver reported a fault of a GPU by its XID.",
    "gpu.cordoned": "An admin keeps new leases off a GPU.",
    "gpu.uncordoned": "An admin lets them on again.",
    "gpu.overcommitted": "More VRAM of a GPU is in use or promised than it has, or no longer.",
    "lease.queued": "An acquire waits. `data` has `waiter`, `name`, `vram_bytes`, `position`,"
    " `queue_length`, why it waits as `code` and `reason`, and how long it may as `wait_ms`.",
    "lease.position": "A waiter's position or the code of its reason changed; at most once a"
    " second, and kept for no replay. `data` has `waiter`, `name`, `position`, `queue_length`,"
    " `code` and `reason`.",
    "lease.cancelled": "An acquire was taken out of the queue. `data` has `waiter`, `name` and"
    " `by_uid`.",
    "lease.expired": "An acquire stopped waiting: its time was up.",
    "lease.granted": "A lease was granted.",
    "lease.active": "The lease's processes use VRAM for the first time.",
    "lease.grown": "The use of the lease is stable or known: others may start on its GPU.",
    "lease.attached": "A further process holds the lease.",
    "lease.orphaned": "The connection of a connection lease is gone; its grace runs.",
    "lease.draining": "The lease is to end within `deadline_s`: `reason` says for whom or what.",
    "lease.acknowledged": "Its holder will end it in time.",
    "lease.refused": "Its holder will not; the deadline stands.",
    "lease.kept": "What it was to end for is over: it may stay.",
    "lease.released": "The lease was given back, or its last process ended (`reason`).",
    "lease.lost": "The lease ended without having been given back (`reason`). Of one that was"
    " revoked, `revoked_for` says for whom or what.",
    "lease.overrun": "The holder uses more than it reserved on a GPU; the lease is raised to it.",
    "lease.idle": "Nothing has been used of the lease for long (`idle_s`).",
    "lease.unreturned": "The VRAM of a released lease is still in use.",
    "breaker.opened": "A breaker rejects calls for `open_s`. `data` of each event of a breaker has"
    " `name`, `state`, `previous`, `reason` (failure_rate, slow_call_rate, retry_after,"
    " half_open_wait, open_over, recovered, restored, forced_open, disabled, reset), what the state"
    " that ended was judged by (`calls`, `failures`, `slow_calls`, `failure_rate`,"
    " `slow_call_rate`), the calls that it `rejected`, and `open_s`. Of one user's own"
    " breakers, 200 events at once are told and 20 a second; `left_out` is how many were not since"
    " the last one that was. So it is with one's own limits and namespaces.",
    "breaker.half_open": "The time of an open breaker is over: a few calls decide.",
    "breaker.closed": "A breaker lets calls through again: these went well, or it was reset.",
    "breaker.forced_open": "A breaker rejects every call, as ordered.",
    "breaker.disabled": "A breaker lets every call through, as ordered.",
    "cache.cleared": "A namespace of the cache was emptied. `data` has `namespace`, how many"
    " `entries` went, and `by_uid`.",
    "limit.blocked": "The service behind a limit wants no requests for `blocked_s`. `data` has"
    " `name` and `scope`.",
    "limit.spent": "A cap on money of a day or month is reached: `data` has `name` and `scope`."
    " Told once for each of them.",
    "limit.overshot": "A user used more beyond what it had reserved than counts for all: `data` has"
    " `name` and what does not count (`requests`, `tokens`, `money_micros`).",
    "limit.reset": "All of a limit is there again, as somebody asked (`by_uid`).",
    "limit.restarted": "The daemon began without knowing all that limits had granted: each begins"
    " with nothing, and grows at its own rate. `data` has `reason` (sudden_end, another_boot).",
    "limit.state_lost": "What limits had granted cannot be read: they begin with nothing.",
}

#: `code` of a GPU in a placement: why it was chosen or passed over.
REASON_CODES: Final[dict[str, str]] = {
    "chosen": "It is the best for the policy.",
    "fits": "It would do, and another is better.",
    "insufficient_vram": "Too little is free now.",
    "returning": "Enough is free once released leases have given their VRAM back.",
    "too_small": "It would not fit if the GPU were empty.",
    "beyond_quota": "The request is exclusive, within a quota, and for less than all of the GPU.",
    "avoided": "The request avoids it.",
    "elsewhere": "The process that is to hold the lease uses another GPU already.",
    "queued": "What is free is kept for an acquire ahead in the queue.",
    "growing": "A lease on it is still growing, and nothing else may start meanwhile.",
    "exclusive_taken": "An exclusive lease is on it.",
    "not_empty": "The request is exclusive, and a lease is on it.",
    "foreign_use": "The request is exclusive, and programs without a lease use it.",
    "settling": "It was not read since the daemon started, or in the last second.",
    "memory_unknown": "The driver gives no memory figures for it.",
    "unknown": "It does not answer in time, or gives no temperature.",
    "lost": "The driver has lost it.",
    "detached": "The probe is detached.",
    "hot": "Its thermal level is hot.",
    "critical": "Its thermal level is critical.",
    "quarantined": "It had a fault that cost it the trust in it.",
    "cordoned": "An admin keeps leases off it.",
    "compute_prohibited": "Its compute mode is PROHIBITED.",
    "compute_exclusive_taken": "Its compute mode is EXCLUSIVE_PROCESS, and a lease or a process has"
    " it, or that cannot be told.",
    "capability_too_low": "Its compute capability is less than the request needs.",
    "capability_unknown": "The request needs a compute capability, and its own is not known.",
    "compute_mode_differs": "It is in another compute mode than the request needs.",
    "compute_mode_unknown": "The request needs a compute mode, and its own is not known.",
    "drives_display": "The request wants a GPU without a display, and it drives one.",
    "display_unknown": "The request wants a GPU without a display: whether it drives one is not"
    " known.",
    "mig_enabled": "MIG is on.",
    "mig_single": "It is a MIG instance, and the request is for several GPUs: CUDA uses one.",
    "mig_shared": "It is one of several compute instances that share one memory.",
    "no_permission": "It is a MIG instance that the daemon may not read.",
}

#: Members of an error's `data` besides `kind` and `correlation_id`, by the kind.
ERROR_DATA: Final[dict[str, tuple[str, ...]]] = {
    "frame_too_large": ("limit",),
    "permission_denied": ("role", "needs", "group", "name", "groups"),
    "busy": ("limit", "retry_after_ms"),
    "shutting_down": ("retry_after_ms",),
    "not_found": ("gpu", "name"),
    "no_capacity": ("placement", "retry_after_ms"),
    "never_fits": ("placement",),
    "cancelled": ("waiter",),
    "queue_full": ("limit", "waiting"),
    "wait_timeout": ("placement",),
    "stale_lease": ("lease",),
    "holder_gone": ("pid",),
    "gpus_unavailable": ("retry_after_ms",),
    "breaker_open": ("name", "state", "retry_after_ms"),
    "rate_limited": ("name", "dimension", "scope", "scope_name", "blocked", "retry_after_ms"),
    "never_passes": ("name", "dimension", "scope", "scope_name", "cost", "burst"),
    "quota_exceeded": ("scope", "name", "resource", "limit", "used", "needed"),
    "fill_failed": ("namespace",),
    "fill_timeout": ("namespace",),
}
