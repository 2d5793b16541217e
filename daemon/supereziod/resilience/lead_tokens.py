"""What a caller that leads is given as text: proof that it was told to fetch this key, and when.

Nothing is kept of a token here. It carries its number and its deadline, sealed together with the
key and the connection it was given to, so that nobody can make one up or use another's.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct
from typing import Final

from superezio.resilience.cache_answers import Token

_NUMBERS: Final = Struct(">QQ")
_SEAL_BYTES: Final = 14
#: Of a token as text: what is longer is none, and is not looked at.
_LENGTH: Final = 4 * (_NUMBERS.size + _SEAL_BYTES) // 3


class LeadTokens:
    """Tokens of the fills of one run of the daemon."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = os.urandom(32) if secret is None else secret

    def text(self, token: Token, connection: str) -> str:
        """Return a token as the text that its holder, a connection, is given."""
        numbers = _NUMBERS.pack(token.generation, token.deadline_ns)
        seal = self._seal(numbers, token.namespace, token.key, connection)
        return urlsafe_b64encode(numbers + seal).decode()

    def read(self, text: str, namespace: str, key: str, connection: str) -> Token | None:
        """Return the token that a text stands for, or None where it is not good for that."""
        if len(text) != _LENGTH or not text.isascii():
            return None
        try:
            sealed = urlsafe_b64decode(text)
        except ValueError:
            return None
        numbers, seal = sealed[: _NUMBERS.size], sealed[_NUMBERS.size :]
        if len(seal) != _SEAL_BYTES:  # what is no base64 was left out
            return None
        if not compare_digest(seal, self._seal(numbers, namespace, key, connection)):
            return None
        generation, deadline_ns = _NUMBERS.unpack(numbers)
        return Token(namespace, key, generation, deadline_ns)

    def _seal(self, numbers: bytes, namespace: str, key: str, connection: str) -> bytes:
        # The names are of restricted characters; the key, which may be anything, comes last.
        what = b"%b%b\0%b\0%b" % (numbers, connection.encode(), namespace.encode(), key.encode())
        return blake2b(what, digest_size=_SEAL_BYTES, key=self._secret).digest()
