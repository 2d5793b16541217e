"""Who has permits out: the connections and users that hold them, and how many of which breaker."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, Generic, TypeVar

Thing = TypeVar("Thing")
#: So many ways are remembered of one connection.
_WAYS: Final = 64


class User(Generic[Thing]):
    """What one user has: breakers of its own, the one used longest ago first, and permits out."""

    __slots__ = ("connections", "own", "permits", "uid")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.connections = 0
        self.permits = 0
        self.own: OrderedDict[Thing, None] = OrderedDict()


class Holder(Generic[Thing]):
    """A connection with permits. What it holds returns with its end."""

    __slots__ = ("connection", "of", "permits", "user", "ways")

    def __init__(self, connection: str, user: User[Thing]) -> None:
        self.connection = connection
        self.user = user
        self.permits = 0
        self.of: dict[Thing, int] = {}
        #: What it means by a name, found once. It may have been forgotten since.
        self.ways: dict[str, Thing] = {}

    def remember(self, name: str, thing: Thing) -> None:
        """Find `thing` by its name at once the next time."""
        if len(self.ways) >= _WAYS:
            self.ways.clear()
        self.ways[name] = thing

    def take(self, thing: Thing) -> None:
        """Hold one permit more, of `thing`."""
        self.permits += 1
        self.user.permits += 1
        self.of[thing] = self.of.get(thing, 0) + 1

    def give_back(self, thing: Thing) -> None:
        """Hold one less."""
        self.permits -= 1
        self.user.permits -= 1
        left = self.of[thing] - 1
        if left:
            self.of[thing] = left
        else:
            del self.of[thing]


class Holders(Generic[Thing]):
    """The holders by their connection, and the users behind them and behind what is kept."""

    def __init__(self) -> None:
        self._by_connection: dict[str, Holder[Thing]] = {}
        self._by_uid: dict[int, User[Thing]] = {}
        #: Return the holder that a connection is, or None if it has asked for nothing to hold.
        self.get = self._by_connection.get

    def of(self, connection: str, uid: int) -> Holder[Thing]:
        """Return the holder that a connection is, from now on if it was none."""
        holder = self._by_connection.get(connection)
        if holder is None:
            user = self.user(uid)
            user.connections += 1
            holder = self._by_connection[connection] = Holder(connection, user)
        return holder

    def user(self, uid: int) -> User[Thing]:
        """Return a user, to be told of with `tidy` where it may have nothing any more."""
        user = self._by_uid.get(uid)
        if user is None:
            user = self._by_uid[uid] = User(uid)
        return user

    def close(self, connection: str) -> Holder[Thing] | None:
        """Forget a connection; return the holder that it was."""
        holder = self._by_connection.pop(connection, None)
        if holder is not None:
            holder.user.connections -= 1
        return holder

    def tidy(self, user: User[Thing]) -> None:
        """Forget a user who has nothing."""
        if not user.own and not user.connections and not user.permits:
            self._by_uid.pop(user.uid, None)

    def forget_ways(self) -> None:
        """Have all that is meant by names found anew."""
        for each in self._by_connection.values():
            each.ways.clear()

    def holding(self, thing: Thing) -> list[Holder[Any]]:
        """Return those who hold a permit of `thing`: looks at all of them."""
        return [each for each in self._by_connection.values() if thing in each.of]
