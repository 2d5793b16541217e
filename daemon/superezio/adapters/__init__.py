"""Guards for other packages' clients; each module needs its package, an extra of this one."""
