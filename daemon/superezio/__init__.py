"""superezio: what the daemon and its clients share.

Names are imported on first use, so that a command that needs one constant does not pay for all
of them.
"""

__version__ = "0.1.0"

#: The number of the wire protocol. Additive changes keep it; `system.info` reports it.
PROTOCOL = 1
