"""Which client has to go when there are too many: none that behaves has to, as long as there is one that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from .connection import Client, State


def next_to_go(clients: Collection[Client], newcomer: str = "") -> Client | None:
    """The client to be closed for a new one; None if the new one has to go.

    First those that have their answer. Then, of those from where most come from, who has been sending its request or
    taking its answer for longest: so each has some time for that, however many come. Who has asked, and waits for us,
    stays, unless all do and the new one is from where fewer of them come from.

    Args:
        clients: all there are.
        newcomer: the home of the new one.
    """
    lingering = [client for client in clients if client.state is State.LINGERING]
    if lingering:
        return min(lingering, key=lambda client: client.since)
    peers = Counter(client.peer_key for client in clients)
    slow = [client for client in clients if client.state is not State.WAITING]
    if slow:
        return min(slow, key=lambda client: (-peers[client.peer_key], client.since))
    crowded = [client for client in clients if peers[client.peer_key] > peers[newcomer] + 1]
    return max(crowded, key=lambda client: (peers[client.peer_key], client.since)) if crowded else None


def too_much(clients: Collection[Client], limit: int) -> list[Client]:
    """The clients to be closed so that no more than ``limit`` bytes of answers are kept for them.

    An answer counts once, however many clients it goes to. The oldest go first, and the newest never.
    """
    readers: dict[int, list[Client]] = {}
    for client in sorted(clients, key=lambda client: client.deadline):
        if client.body:
            readers.setdefault(id(client.body), []).append(client)
    groups = list(readers.values())
    held = sum(len(group[0].body) for group in groups)
    gone = []
    for group in groups[:-1]:
        if held <= limit:
            break
        held -= len(group[0].body)
        gone += group
    return gone
