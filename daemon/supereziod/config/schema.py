"""Every section of the configuration: each has a module, with its keys, their types and defaults.

In the file a duration may be text ("30s") or a number of seconds, and a size text ("8GiB") or a
number of bytes. Their fields carry the unit (`grace_s`, `reserve_bytes`), their keys do not
(`grace`, `reserve`). The descriptions are what docs/superezio.toml prints.
"""

from __future__ import annotations

from supereziod.config.access import Access
from supereziod.config.breakers import Breaker
from supereziod.config.cache import Cache
from supereziod.config.gpu import Gpu
from supereziod.config.health import Health, Watchdog
from supereziod.config.leases import Leases
from supereziod.config.limits import Limits
from supereziod.config.limits_shared import Limit
from supereziod.config.logs import Logging
from supereziod.config.recorder import Recorder
from supereziod.config.section import Section


class Config(Section, frozen=True):
    """The whole configuration. Only the composition root sees it: parts are given values."""

    limits: Limits = Limits()
    gpu: Gpu = Gpu()
    leases: Leases = Leases()
    health: Health = Health()
    watchdog: Watchdog = Watchdog()
    access: Access = Access()
    logging: Logging = Logging()
    limit: Limit = Limit()
    recorder: Recorder = Recorder()
    breaker: Breaker = Breaker()
    cache: Cache = Cache()
