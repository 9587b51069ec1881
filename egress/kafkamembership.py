"""What the client library gets wrong about a member of a group, looked at before and after each poll."""

from __future__ import annotations

from typing import Any

from egress.errors import BusError


class Membership:
    """Of one consumer in its group; without a group there is nothing to look at."""

    def __init__(self, group: str, member: str) -> None:
        self._group = group
        self._member = member
        self._has_joined_again = False

    def keep(self, coordinator: Any) -> None:
        """Joins again where the library would leave it, and once more after a member with a name came back.

        A join that a short poll began, or that metadata which flap began, is forgotten half way: the member would read
        on without a heartbeat, and each of its commits be refused, for ever. And who comes back by its name is given
        what it had without being told that it leads the group: nobody would notice new partitions. Joining again
        costs a follower nothing; a leader shares anew.
        """
        if not self._group or coordinator.need_rejoin():
            return
        if not coordinator.stable():
            coordinator.request_rejoin()
        elif self._member and not self._has_joined_again:
            self._has_joined_again = True
            coordinator.request_rejoin()

    def must_be_the_only_one(self, coordinator: Any) -> None:
        """The library stops its heartbeats when another takes its name, and goes on reading as if nothing was."""
        if self._member and coordinator.stable() and not coordinator._heartbeat_enabled:
            raise BusError(
                f"another process has joined {self._group} as {self._member}; end one of the two, "
                "or give each a name of its own"
            )

    def is_settled(self, coordinator: Any) -> bool:
        """Whether the group has said what is ours, and is not about to say something else, as far as it is known."""
        return not self._group or (coordinator.stable() and not coordinator.need_rejoin())
