"""The screen itself: prompt_toolkit draws what `drawing` says and hands on the keys.

What a key does to a lease or a GPU is one call to the daemon; its refusal is shown in its words.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.output import ColorDepth

from superezio.errors import SuperezioError
from superezio.quantities import format_duration
from superezio.wire import Lease
from superezioctl.lease_ids import SHOWN_COLUMNS
from superezioctl.output import Output, harmless, printed_width
from superezioctl.top import drawing
from superezioctl.top.cursor import Cursor
from superezioctl.top.following import Follower
from superezioctl.views.text import fit, place
from superezioctl.wording import with_users

#: A refusal says which group to join, in a sentence or two.
_MOST_SAID_ROWS = 4
#: An answer to a key may take this long.
_PATIENCE_S = 5.0
_PAGE_ROWS = 10
_LONGEST_REASON = 200
_NAME_COLUMNS = 20

Action = Callable[[], Coroutine[None, None, None]]


class Screen:
    """One run of the screen, from the first line drawn to the last key."""

    def __init__(self, out: Output, socket_path: str) -> None:
        self._out = out
        self._cursor = Cursor()
        self._follower = Follower(socket_path, show=self._refresh)
        self._said = ""
        self._helping = False
        #: What happens when a question is answered with yes.
        self._if_yes: Action | None = None
        self._question = ""
        #: The GPU to cordon once the reason is typed.
        self._cordoning: str | None = None
        self._reason = Buffer(multiline=False, accept_handler=self._take_reason)
        self._tasks: set[asyncio.Task[None]] = set()
        self._application = self._build()

    async def run(self) -> None:
        """Draw until somebody quits. The terminal is left as it was found."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._quit)
        following = loop.create_task(self._follower.follow())
        following.add_done_callback(self._quit_after_a_bug)
        try:
            await self._application.run_async()
        finally:
            left = (following, *self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if not following.cancelled():
            following.result()

    # --- what is on the screen ------------------------------------------------------------------

    def _build(self) -> Application[None]:
        typing = Condition(lambda: self._cordoning is not None)
        asking = VSplit(
            [
                Window(FormattedTextControl(lambda: self._question), dont_extend_width=True),
                Window(BufferControl(self._reason)),
            ],
            height=1,
        )
        foot = Window(FormattedTextControl(self._foot), height=1)
        body = HSplit(
            [
                Window(FormattedTextControl(self._body, focusable=True, show_cursor=False)),
                Window(
                    FormattedTextControl(lambda: ANSI(self._last_said())),
                    height=self._said_rows,
                    wrap_lines=True,
                ),
                ConditionalContainer(asking, filter=typing, alternative_content=foot),
            ]
        )
        return Application(
            layout=Layout(body),
            key_bindings=self._keys(typing),
            full_screen=True,
            color_depth=None if self._out.colour else ColorDepth.DEPTH_1_BIT,
        )

    def _body(self) -> AnyFormattedText:
        size = self._application.output.get_size()
        if self._helping:
            return "\n".join(drawing.HELP)
        lines = drawing.screen(
            self._out,
            self._follower.board,
            self._cursor,
            width=size.columns,
            height=size.rows - self._said_rows() - 1,
        )
        return ANSI("\n".join(lines))

    def _last_said(self) -> str:
        said = self._said or self._out.style(self._follower.board.news, "dim")
        return harmless(said.replace("\n", " "))

    def _said_rows(self) -> int:
        """Return the rows for what was said last: an answer is shown whole, news in one."""
        columns = self._application.output.get_size().columns
        rows = -(-printed_width(self._said) // max(1, columns))
        return max(1, min(rows, _MOST_SAID_ROWS))

    def _foot(self) -> str:
        return self._question if self._if_yes is not None else drawing.KEYS

    def _refresh(self) -> None:
        self._cursor.settle(self._follower.board.keys())
        self._application.invalidate()

    # --- keys -----------------------------------------------------------------------------------

    def _keys(self, typing: Condition) -> KeyBindings:
        keys = KeyBindings()
        asked = Condition(lambda: self._if_yes is not None)
        helping = Condition(lambda: self._helping)
        plain = ~typing & ~asked & ~helping
        for names, do in (
            (("q", "c-c"), self._quit),
            (("?",), self._help),
            (("tab", "right"), lambda: self._cursor.turn(1)),
            (("s-tab", "left"), lambda: self._cursor.turn(-1)),
            (("up",), lambda: self._cursor.move(-1)),
            (("down",), lambda: self._cursor.move(1)),
            (("pageup",), lambda: self._cursor.move(-_PAGE_ROWS)),
            (("pagedown",), lambda: self._cursor.move(_PAGE_ROWS)),
            (("r",), self._ask_to_release),
            (("v",), self._ask_to_revoke),
            (("x",), self._ask_to_cancel),
            (("c",), self._ask_for_a_reason),
            (("u",), self._uncordon),
        ):
            for name in names:
                keys.add(name, filter=plain)(self._handler(do))
        keys.add("<any>", filter=helping)(self._handler(self._help))
        for name in ("q", "c-c"):
            keys.add(name, filter=helping)(self._handler(self._quit))
        keys.add("y", filter=asked)(self._handler(self._yes))
        keys.add("<any>", filter=asked)(self._handler(self._no))
        for name in ("escape", "c-c"):
            keys.add(name, filter=typing)(self._handler(self._no))
        keys.add("c-z")(self._handler(self._suspend))
        return keys

    def _handler(self, do: Callable[[], None]) -> Callable[[KeyPressEvent], None]:
        def handle(_: KeyPressEvent) -> None:
            self._said = ""
            do()

        return handle

    def _quit(self) -> None:
        running = self._application.future
        if running is not None and not running.done():
            self._application.exit()

    def _quit_after_a_bug(self, following: asyncio.Task[None]) -> None:
        if not following.cancelled():
            self._quit()

    def _suspend(self) -> None:
        """Do as the shell expects of Ctrl-Z."""
        self._application.suspend_to_background()

    def _help(self) -> None:
        self._helping = not self._helping

    def _ask_to_release(self) -> None:
        lease = self._selected_lease()
        if lease is not None:
            which = _called(lease.id, lease.name)
            question = f"Release lease {which}? Its program goes on. y / n"
            self._ask(question, lambda: self._release(lease.id))

    def _ask_to_revoke(self) -> None:
        lease = self._selected_lease()
        if lease is not None:
            which = _called(lease.id, lease.name)
            question = f"Revoke lease {which}? Its program is told to end. y / n"
            self._ask(question, lambda: self._revoke(lease.id))

    def _ask_to_cancel(self) -> None:
        waiter = self._follower.board.waiter(self._cursor.selected("queue") or "")
        if self._cursor.section != "queue" or waiter is None:
            self._said = "Select one that waits first: Tab goes to the queue."
            return
        which = _called(waiter.id, waiter.name)
        self._ask(f"Take {which} out of the queue? y / n", lambda: self._cancel(waiter.id))

    def _ask(self, question: str, if_yes: Action) -> None:
        self._question = harmless(question)
        self._if_yes = if_yes

    def _selected_lease(self) -> Lease | None:
        lease = self._follower.board.lease(self._cursor.selected("leases") or "")
        if self._cursor.section == "leases" and lease is not None:
            return lease
        self._said = "Select a lease first: Tab goes to the leases."
        return None

    def _ask_for_a_reason(self) -> None:
        uuid = self._selected_gpu()
        if uuid is not None:
            what = f"Cordon {self._called(uuid)}"
            self._question = f"{what}, because (Enter: do it, Esc: leave it): "
            self._cordoning = uuid
            self._reason.reset()
            self._application.layout.focus(self._reason)

    def _uncordon(self) -> None:
        uuid = self._selected_gpu()
        if uuid is not None:
            self._do(lambda: self._call_uncordon(uuid))

    def _selected_gpu(self) -> str | None:
        if self._cursor.section == "gpus" and (uuid := self._cursor.selected("gpus")) is not None:
            return uuid
        self._said = "Select a GPU first: Tab goes to the GPUs."
        return None

    def _yes(self) -> None:
        action, self._if_yes = self._if_yes, None
        if action is not None:
            self._do(action)

    def _no(self) -> None:
        self._if_yes = self._cordoning = None
        self._application.layout.focus_last()
        self._said = "left as it was"

    def _take_reason(self, typed: Buffer) -> bool:
        uuid, self._cordoning = self._cordoning, None
        reason = typed.text[:_LONGEST_REASON]
        self._application.layout.focus_last()
        if uuid is not None:
            self._do(lambda: self._call_cordon(uuid, reason))
        return False

    # --- what the keys do -----------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        self._said = "asking the daemon"
        task = asyncio.get_running_loop().create_task(self._tell(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, action: Action) -> None:
        try:
            await action()
        except SuperezioError as error:
            self._said = self._out.style(with_users(error.message), "bad")
        self._follower.look_soon()
        self._application.invalidate()

    async def _release(self, lease: str) -> None:
        done = await self._follower.client.lease_release(lease, timeout_s=_PATIENCE_S)
        self._said = f"lease {lease} {'is released' if done.released else 'was released already'}"

    async def _revoke(self, lease: str) -> None:
        revoked = await self._follower.client.lease_revoke(lease, timeout_s=_PATIENCE_S)
        order = revoked.revocation
        within = "" if order is None else f": lost in {format_duration(order.remaining_s)}"
        self._said = f"lease {lease} is revoked{within}, unless it ends before"

    async def _cancel(self, waiter: str) -> None:
        done = await self._follower.client.lease_cancel(waiter, timeout_s=_PATIENCE_S)
        was = "is taken" if done.done else "was already"
        self._said = f"{waiter} {was} out of the queue"

    async def _call_cordon(self, uuid: str, reason: str) -> None:
        client = self._follower.client
        done = await client.gpu_cordon(uuid, reason=reason, timeout_s=_PATIENCE_S)
        until = " until a reboot: see health" if done.recorded is False else ""
        self._said = f"{self._called(uuid)} is cordoned: it gets no new leases{until}"

    async def _call_uncordon(self, uuid: str) -> None:
        done = await self._follower.client.gpu_uncordon(uuid, timeout_s=_PATIENCE_S)
        self._said = f"{self._called(uuid)} {'is' if done.done else 'was'} not cordoned"

    def _called(self, uuid: str) -> str:
        gpu = self._follower.board.gpu(uuid)
        return f"gpu {uuid}" if gpu is None else f"gpu {place(gpu.index, gpu.mig_index)}"


def _called(id_: str, name: str | None) -> str:
    return id_[:SHOWN_COLUMNS] + (f" ({fit(name, _NAME_COLUMNS)})" if name else "")


def show(out: Output, socket_path: str) -> None:
    """Show the screen until it is left."""
    asyncio.run(Screen(out, socket_path).run())
