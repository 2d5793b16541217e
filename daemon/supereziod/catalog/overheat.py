"""What superezio-overheat.service does where heat made the daemon fail."""

from __future__ import annotations

from typing import Final

from supereziod.catalog.explained import Explained

_WHAT_HAPPENED: Final = "journalctl -u superezio-overheat -b"
_STATUS: Final = "systemctl status superezio-overheat.service"
_MODELS: Final = "superezioctl model list"
_AGAIN: Final = "systemctl start superezio-overheat.service"
_DAEMON: Final = "systemctl status superezio.service"

EXPLAINED: Final[dict[str, Explained]] = {
    "overheat.confirmed": Explained(
        "A GPU is critically hot, and the model servers are stopped for it",
        "The daemon failed because of heat: systemd says so, the reason that it stored says so, and"
        " a fresh reading of the GPUs does. All comes back by itself when it is cool.",
        "Find out why it is hot: fans, dust, the room, a power limit. Stop what else uses the GPU;"
        " the next lines name it.",
        (_WHAT_HAPPENED, _STATUS, "nvidia-smi"),
    ),
    "overheat.holder_outside": Explained(
        "Somebody who is not a model server holds a lease, and is not stopped",
        "Only what runs in superezio-models.slice is stopped. This process may be what heats the"
        " GPU.",
        "Stop it yourself if the GPU does not get cool.",
        (_WHAT_HAPPENED, "nvidia-smi"),
    ),
    "overheat.models_stopping": Explained(
        "The model servers are being stopped",
        "Which they are is on the disk, so that they are started again even if this ends suddenly.",
        "Nothing.",
        (_WHAT_HAPPENED,),
    ),
    "overheat.models_stopped": Explained(
        "The model servers are stopped until it is cool",
        "They are started again by themselves, one by one, after the daemon.",
        "Nothing, if they may wait. Do not start them by hand while it is hot.",
        (_STATUS, _MODELS),
    ),
    "overheat.models_not_stopped": Explained(
        "A model server did not stop in time",
        "systemd still works on it, or refused. The GPU goes on being heated meanwhile.",
        "See what it does, and kill it if it has to be.",
        (_WHAT_HAPPENED, "systemctl status superezio-models.slice"),
    ),
    "overheat.models_unknown": Explained(
        "systemd does not say which model servers run",
        "None could be stopped, or not all of them.",
        "Stop them yourself while it is hot.",
        ("systemctl status superezio-models.slice", "systemctl stop superezio-models.slice"),
    ),
    "overheat.still_hot": Explained(
        "The GPUs have not got cool in time, and all stays stopped",
        "It looks again every few minutes, for as long as it takes.",
        "Find out what heats them. To start all in spite of it, stop this unit first.",
        (_STATUS, "nvidia-smi", "systemctl stop superezio-overheat.service"),
    ),
    "overheat.daemon_not_started": Explained(
        "It is cool, but the daemon does not start",
        "The model servers stay stopped, as nobody would lease to them. It is tried again.",
        "See why the daemon does not start.",
        (_DAEMON, "journalctl -u superezio -b"),
    ),
    "overheat.failed_anew": Explained(
        "The daemon failed again before all model servers were started again",
        "If heat is the cause they are all stopped once more. If not, the rest is started, and"
        " waits for the daemon.",
        "The next lines say which it is. If it is not heat, see why the daemon failed.",
        (_WHAT_HAPPENED, _DAEMON),
    ),
    "overheat.model_starting": Explained(
        "A model server is being started, and is not up yet",
        "It takes long, or waits for a lease. The next ones are started beside it.",
        "Nothing, unless it does not get ready.",
        (_MODELS,),
    ),
    "overheat.model_not_started": Explained(
        "A model server that was stopped for heat could not be started again",
        "The others are. One that was made by systemd-run has no unit file to start it from.",
        "Start it yourself.",
        (_MODELS, _WHAT_HAPPENED),
    ),
    "overheat.handed_over": Explained(
        "Somebody else started the daemon while the models were stopped",
        "Whoever did that knows better: what was stopped is not started again by itself. The line"
        " names it.",
        "Start the models that you want.",
        (_MODELS, _WHAT_HAPPENED),
    ),
    "overheat.resumed": Explained(
        "An earlier run ended before all was started again, and this one goes on",
        "What was stopped is known from the disk.",
        "Nothing. If nobody ended it, the lines before this one say why it ended.",
        (_WHAT_HAPPENED,),
    ),
    "overheat.interrupted": Explained(
        "It was told to end: what it had stopped stays stopped",
        "Started again, it goes on where it was; so does the next failure of the daemon for heat.",
        "Start it again, or start the daemon and the models yourself.",
        (_AGAIN, _MODELS),
    ),
    "overheat.bad_configuration": Explained(
        "No model is stopped: the configuration cannot be used",
        "The thresholds of the GPUs stand in it. The line has file, line and key.",
        "Mend the file. While it is hot, stop the models yourself.",
        ("supereziod --check", "systemctl stop superezio-models.slice"),
    ),
    "overheat.reason_unreadable": Explained(
        "Why the daemon failed cannot be read",
        "Without the reason that it stored nothing is stopped.",
        "See whether it is hot, and why the state directory cannot be read.",
        ("ls -l /var/lib/superezio", "nvidia-smi"),
    ),
    "overheat.leases_unreadable": Explained(
        "Who holds leases cannot be read",
        "The model servers are stopped all the same; who else uses the GPUs is not named.",
        "Look yourself who uses them.",
        ("ls -l /run/superezio", "nvidia-smi"),
    ),
    "overheat.record_unreadable": Explained(
        "What an earlier run had stopped cannot be read",
        "It cannot be started again by itself.",
        "Start the models yourself, when it is cool.",
        (_MODELS, _WHAT_HAPPENED),
    ),
    "overheat.record_not_written": Explained(
        "What is stopped cannot be written down",
        "It is stopped all the same, and started again. Only if this run were killed, it would not"
        " be.",
        "See whether the disk is full.",
        ("df /var/lib/superezio",),
    ),
    "overheat.systemd_unknown": Explained(
        "systemd does not say what became of the daemon",
        "Whether heat made it fail is not known then, and no model is stopped for it.",
        "Look yourself.",
        (_DAEMON, "nvidia-smi"),
    ),
}
