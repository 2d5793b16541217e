"""Blocks to put around code: with `with`, or as the decorator of a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

H = TypeVar("H")
P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What makes another function of a function, with the same parameters and result."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...


class AsyncDecorator(Protocol):
    """The same for coroutine functions."""

    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...


class Around(Generic[H]):
    """A block of code, any number of times and in any number of threads.

    `with` it, or decorate a function with it, each call of which is then such a block, or what
    `decorate` makes of it.
    """

    def __init__(
        self,
        block: Callable[[], AbstractContextManager[H]],
        *,
        after: Callable[[H, Any], None] | None = None,
        decorate: Decorator | None = None,
    ) -> None:
        self._block = block
        self._after = after or nothing_after
        self._decorate = decorate
        self._entered: dict[int, list[AbstractContextManager[H]]] = {}

    def __enter__(self) -> H:
        block = self._block()
        handle = block.__enter__()
        self._entered.setdefault(threading.get_ident(), []).append(block)
        return handle

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        blocks = self._entered[threading.get_ident()]
        block = blocks.pop()
        if not blocks:
            del self._entered[threading.get_ident()]
        block.__exit__(kind, error, traceback)

    def once(self) -> AbstractContextManager[H]:
        """Return one block, which may end in another thread, and after blocks that began later."""
        return self._block()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        refuse_async(function)
        if self._decorate is not None:
            return self._decorate(function)

        @functools.wraps(function)
        def around(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._block() as handle:
                result = function(*args, **kwargs)
                self._after(handle, result)
            return result

        return around


class AsyncAround(Generic[H]):
    """A block of asyncio code, any number of times and in any number of tasks."""

    def __init__(
        self,
        block: Callable[[], AbstractAsyncContextManager[H]],
        *,
        after: Callable[[H, Any], None] | None = None,
        decorate: AsyncDecorator | None = None,
    ) -> None:
        self._block = block
        self._after = after or nothing_after
        self._decorate = decorate
        self._entered: dict[asyncio.Task[Any] | None, list[AbstractAsyncContextManager[H]]] = {}

    async def __aenter__(self) -> H:
        block = self._block()
        handle = await block.__aenter__()
        self._entered.setdefault(asyncio.current_task(), []).append(block)
        return handle

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        blocks = self._entered[task]
        block = blocks.pop()
        if not blocks:
            del self._entered[task]
        await block.__aexit__(kind, error, traceback)

    def once(self) -> AbstractAsyncContextManager[H]:
        """Return one block, which may end in another task, and after blocks that began later."""
        return self._block()

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        refuse_blocking(function)
        if self._decorate is not None:
            return self._decorate(function)

        @functools.wraps(function)
        async def around(*args: P.args, **kwargs: P.kwargs) -> R:
            async with self._block() as handle:
                result = await function(*args, **kwargs)
                self._after(handle, result)
            return result

        return around


def nothing_after(_handle: object, _result: object) -> None:
    """Leave the handle as the block left it."""


def refuse_async(function: Callable[..., Any]) -> None:
    """Raise TypeError for what is not over when it returns."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{_name(function)} is a coroutine function: decorate it by an AsyncClient")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{_name(function)} is a generator: use a with block inside of it")


def refuse_blocking(function: Callable[..., Any]) -> None:
    """Raise TypeError for what is no coroutine function."""
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"{_name(function)} is a generator: use an async with block inside of it")
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{_name(function)} is no coroutine function: decorate it by a Client")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
