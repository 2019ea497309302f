"""The subscriptions of a WebSocket client."""

from tasks.events import Event


class SubscriptionFilter:
    """Matches the events of all trees, until the client subscribes to single ones."""

    def __init__(self) -> None:
        self._is_everything = True
        self._named: set[str] = set()
        self._unwanted: set[str] = set()

    @property
    def is_narrowed(self) -> bool:
        """Whether the client has subscribed to single trees."""
        return not self._is_everything

    def wants(self, event: Event) -> bool:
        root_id = event["root_task_id"]
        return root_id in self._named or (self._is_everything and root_id not in self._unwanted)

    def add(self, root_id: str) -> None:
        self._is_everything = False
        self._named.add(root_id)

    def keep(self, root_id: str) -> None:
        """Add this tree without changing the rest of the filter."""
        self._unwanted.discard(root_id)
        self._named.add(root_id)

    def drop(self, root_id: str) -> None:
        self._named.discard(root_id)
        self._unwanted.add(root_id)

    def set_all(self, is_everything: bool) -> None:
        self._is_everything = is_everything
        self._named.clear()
        self._unwanted.clear()
