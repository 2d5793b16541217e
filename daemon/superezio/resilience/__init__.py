"""Circuit breaker, rate limiter and cache: pure, with the clock as a parameter, and no I/O."""
