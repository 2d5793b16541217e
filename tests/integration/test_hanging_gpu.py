"""An NVML call that hangs for 60 s on one GPU of two: the other goes on as if nothing happened.

The real pynvml talks to the simulated library; the hang is in its C code.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from live_daemon import LiveDaemon
from plain_client import Json, PlainClient, RefusedError, plain_client

GIB = 1 << 30
HANG_S = 60.0
P99_BOUND_S = 0.050
