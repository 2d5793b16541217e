"""What a client puts around its calls of a service: a breaker, a limit, a cache, or all three.

`Client.breaker`, `limit`, `cached` and `guard`, and their asyncio twins, are made of these parts.
What is decided is written once, in breaking, limiting, caching and composing; whom it is asked of
is in lines and aio_lines: the daemon, or what stands in for it where it is not there.
"""
