"""What `superezioctl guard` puts around a command: the breaker, the limit and the cache."""
