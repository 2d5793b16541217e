"""session.*: one id over several connections."""

from __future__ import annotations

from typing import Final

from superezio.errors import InvalidParamsError
from superezio.wire import (
    Done,
    NoParams,
    SessionCloseParams,
    SessionList,
    SessionOpened,
    SessionOpenParams,
)
from supereziod.rpc.requests import RequestContext
from supereziod.rpc.sessions import Sessions

_MAX_NAME: Final = 128


class SessionCommands:
    """Handlers of session.*."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def open(self, request: RequestContext, params: SessionOpenParams) -> SessionOpened:
        """Open a session, or resume one; requests name it in `meta.session_id`."""
        if params.name is not None and len(params.name) > _MAX_NAME:
            raise InvalidParamsError(f"name may have up to {_MAX_NAME} characters")
        if params.name is not None and not params.name.isprintable():
            raise InvalidParamsError("name may hold no control characters")
        return self._sessions.open(
            uid=request.peer.uid,
            pid=request.peer.pid,
            name=params.name,
            token=params.token,
            joined=request.origin.sessions,
        )

    def close(self, request: RequestContext, params: SessionCloseParams) -> Done:
        """End an opened session, so that its token is worth nothing."""
        return Done(
            done=self._sessions.close(
                params.session_id, uid=request.peer.uid, everyone=request.role == "admin"
            )
        )

    def list(self, request: RequestContext, _params: NoParams) -> SessionList:
        """Return the caller's sessions; an admin sees everyone's."""
        visible = self._sessions.visible_to(request.peer.uid, everyone=request.role == "admin")
        return SessionList(sessions=list(visible))
