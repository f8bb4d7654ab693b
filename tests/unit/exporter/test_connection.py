"""Eviction of clients beyond the limits of number and memory."""

from __future__ import annotations

import pytest

from gunicorn_prom_hooks.exporter.connection import Client, State, next_to_evict, over_memory_limit, peer_key
from gunicorn_prom_hooks.exporter.tls import Plain


def client(state: State, moved: float, peer: str = "10.0.0.1", body: bytes = b"") -> Client:
    """A client at this."""
    made = Client(None, (peer, 1), Plain())
    made.state, made.since, made.deadline, made.body = state, moved, moved + 5.0, body
    return made


LINGERING, READING, WRITING, WAITING = State.LINGERING, State.READING, State.WRITING, State.WAITING


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(WAITING, 0), (READING, 5), (LINGERING, 9), (LINGERING, 8)], 3),
        ([(WAITING, 0), (WRITING, 7), (READING, 9), (READING, 8)], 1),
        ([(WAITING, 0), (WRITING, 7), (WRITING, 6), (READING, 5)], 3),
    ],
)
def test_client_with_its_response_or_the_slowest_is_evicted_first(
    states: list[tuple[State, float]], expected: int
) -> None:
    """A client with its response is evicted first, then the one whose request or response has taken longest."""
    clients = [client(state, moved) for state, moved in states]
    assert next_to_evict(clients) is clients[expected]


def test_waiting_clients_are_evicted_only_for_another_address() -> None:
    """If all clients wait for a response, a new one from the same address is refused."""
    clients = [client(WAITING, moved) for moved in range(5)]
    assert next_to_evict(clients, "10.0.0.1") is None
    assert next_to_evict(clients, "10.0.0.2") is clients[4]


def test_clients_of_the_most_common_address_are_evicted_first() -> None:
    """One from elsewhere is not driven out by many from one place, whatever it is at."""
    alone = client(READING, 0.0, "10.0.0.2")
    crowd = [client(WRITING, moved) for moved in (3.0, 2.0)]
    assert next_to_evict([alone, *crowd]) is crowd[1]


@pytest.mark.parametrize("state", [READING, WRITING])
def test_many_that_wait_do_not_evict_a_client_from_elsewhere(state: State) -> None:
    """A new connection is refused while the only client that does not wait is from an address with fewer."""
    alone = client(state, 0.0, "10.0.0.2")
    crowd = [client(WAITING, moved) for moved in (3.0, 2.0)]
    assert next_to_evict([alone, *crowd], "10.0.0.1") is None
    assert next_to_evict([alone, *crowd], "10.0.0.2") is alone


def test_next_to_evict_of_no_clients_is_none() -> None:
    """Without clients there is none to close."""
    assert next_to_evict([]) is None


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("", 0), ""),
        (b"", ""),
    ],
)
def test_peer_key_is_the_ipv4_address_or_empty(peer: object, expected: str) -> None:
    """The key of an IPv4 address is the address, also mapped to IPv6; anything else has an empty key."""
    assert peer_key(peer) == expected


def test_peer_key_of_ipv6_is_the_network() -> None:
    """The key of an IPv6 address is its network."""
    assert peer_key(("2001:db8::1", 5, 0, 0)) == peer_key(("2001:db8::ffff:1%eth0", 7, 0, 2))
    assert peer_key(("2001:db8::1", 5, 0, 0)) != peer_key(("2001:db8:0:1::1", 5, 0, 0))


def test_shared_responses_count_once_in_memory_and_the_oldest_is_evicted() -> None:
    """However many clients read an answer, it is kept once; the oldest goes when it is too much, the newest never."""
    old, new = b"o" * 100, b"n" * 100
    readers = [client(WRITING, 1, body=old), client(WRITING, 2, body=old), client(WRITING, 3, body=new)]
    assert over_memory_limit(readers, 200) == []
    assert over_memory_limit(readers, 150) == readers[:2]
    assert over_memory_limit(readers, 0) == readers[:2]
    assert over_memory_limit([client(WAITING, 1)], 0) == []
