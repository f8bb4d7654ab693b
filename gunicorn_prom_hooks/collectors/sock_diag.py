"""Netlink queries about listening sockets and their connections, as ``ss`` makes them.

All numbers are in the byte order of the machine, except ports and addresses, which are in network order. A request is
a struct nlmsghdr, then the struct of the family, then for TCP an attribute with a filter:

======================== =============================== =======================================================
struct nlmsghdr          u32 nlmsg_len                   of the whole message
(linux/netlink.h)        u16 nlmsg_type                  SOCK_DIAG_BY_FAMILY = 20 (linux/sock_diag.h)
                         u16 nlmsg_flags                 NLM_F_REQUEST = 1; with NLM_F_DUMP = 0x300 for all sockets
                         u32 nlmsg_seq                   comes back in the answer
                         u32 nlmsg_pid                   0: the kernel fills it in
struct unix_diag_req     u8  sdiag_family                AF_UNIX = 1
(linux/unix_diag.h)      u8  sdiag_protocol              0
                         u16 pad                         0
                         u32 udiag_states                a bit per state
                         u32 udiag_ino                   the socket's st_ino from fstat(); 0 in a dump
                         u32 udiag_show                  UDIAG_SHOW_NAME = 1, _VFS = 2, _RQLEN = 0x10
                         u32 udiag_cookie[2]             all ones, INET_DIAG_NOCOOKIE: the inode is enough
struct inet_diag_req_v2  u8  sdiag_family                AF_INET = 2 or AF_INET6 = 10
(linux/inet_diag.h)      u8  sdiag_protocol              IPPROTO_TCP = 6
                         u8  idiag_ext, u8 pad           0
                         u32 idiag_states                a bit per state
                         48 bytes inet_diag_sockid       0 in a dump
struct nlattr            u16 nla_len, u16 nla_type       INET_DIAG_REQ_BYTECODE = 1
struct inet_diag_bc_op   u8  code, u8 yes, u16 no        two comparisons, each followed by a port in the place of ``no``
======================== =============================== =======================================================

The answer is a series of messages, each a struct nlmsghdr of type SOCK_DIAG_BY_FAMILY and a struct of the family with
attributes. The last one of a dump has the type NLMSG_DONE. A refusal has the type NLMSG_ERROR and a negative errno.

======================== =============================== =======================================================
struct unix_diag_msg     u8  udiag_family, udiag_type
(linux/unix_diag.h)      u8  udiag_state                 TCP_LISTEN = 10 (net/tcp_states.h), for Unix sockets too
                         u8  pad
                         u32 udiag_ino, udiag_cookie[2]
struct nlattr            u16 nla_len                     of the attribute with this header; the next one begins at
(linux/netlink.h)                                        the next multiple of NLA_ALIGNTO = 4
                         u16 nla_type                    UNIX_DIAG_NAME = 0, _VFS = 1, _RQLEN = 4 (linux/unix_diag.h)
UNIX_DIAG_NAME           bytes                           the address; an accepted socket has that of its listener
UNIX_DIAG_VFS            u32 inode, u32 device           of the file at a path
struct unix_diag_rqlen   u32 udiag_rqueue                of a listening socket: queued connections; else unread bytes
(linux/unix_diag.h)      u32 udiag_wqueue                of a listening socket: the limit from listen()
struct inet_diag_msg     u8  idiag_family, idiag_state, idiag_timer, idiag_retrans
(linux/inet_diag.h)      u16 sport, dport; 16 bytes src; 16 bytes dst; u32 interface; u32 cookie[2]; u32 expires
                         u32 idiag_rqueue, idiag_wqueue  as of a Unix socket; an unread FIN counts as a byte
                         u32 idiag_uid, idiag_inode      inode 0: not accepted yet
======================== =============================== =======================================================

Attributes of other types may come before and after these.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections import Counter
from typing import Final, NamedTuple

from ..concurrency import unpatched

TIMEOUT_SECONDS: Final = 0.5
"""The kernel answers within the call as a rule. If it does not, the thread must not hang."""
MAX_ANSWER_BYTES: Final = 32 * 2**20
"""Limit of one answer, some 250,000 connections. Reading a longer one is given up."""

_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_MULTI, _NLM_F_DUMP = 1, 2, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_UDIAG_SHOW_NAME, _UDIAG_SHOW_VFS, _UDIAG_SHOW_RQLEN = 0x1, 0x2, 0x10
_UNIX_DIAG_NAME, _UNIX_DIAG_VFS, _UNIX_DIAG_RQLEN = 0, 1, 4
_INET_DIAG_REQ_BYTECODE = 1
_INET_DIAG_BC_S_GE, _INET_DIAG_BC_S_LE = 2, 3
_TCP_ESTABLISHED, _TCP_CLOSE_WAIT, _TCP_LISTEN = 1, 8, 10
_IPPROTO_TCP = 6
_AF_UNIX = 1
_ALL = 0xFFFFFFFF
_SEQUENCE = 1

_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
_UNIX_MESSAGE = struct.Struct("=BBBBIII")
_TCP_REQUEST = struct.Struct("=BBBBI48x")
_TCP_MESSAGE = struct.Struct("=xBxx4x16s16x16xIIII")
_FILTER = struct.Struct("=BBHxxHBBHxxH")
_ATTRIBUTE = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")


class TcpListener(NamedTuple):
    """A listening TCP socket.

    Attributes:
        address: the local address, 4 or 16 bytes.
        inode: of the socket.
        queue: number of connections in the accept queue.
        limit: number of connections that the accept queue may hold.
    """

    address: bytes
    inode: int
    queue: int
    limit: int


class TcpPort(NamedTuple):
    """All TCP sockets at one local port, of one address family.

    Attributes:
        listeners: of all processes in this network namespace.
        waiting: number of accepted connections with unread data, by local address.
    """

    listeners: list[TcpListener]
    waiting: Counter[bytes]


UnixAddress = tuple[bytes, bytes]
"""Address of a Unix socket, and inode and device of its file. Two sockets may have the same relative path."""


class UnixSockets(NamedTuple):
    """The listening and connected Unix sockets of this network namespace.

    Attributes:
        listeners: addresses of listening sockets, by inode of the socket.
        waiting: number of accepted connections with unread data, by address of their listener.
    """

    listeners: dict[int, UnixAddress]
    waiting: Counter[UnixAddress]


def unix_backlog(inode: int) -> tuple[int, int] | None:
    """Return the number of connections in the accept queue of the Unix socket with this inode, and their limit.

    Returns:
        None if it is not a listening socket.

    Raises:
        OSError: netlink is not available, or did not answer in time.
    """
    if not 0 < inode <= _ALL:  # more than the request can hold
        return None
    request = _UNIX_REQUEST.pack(_AF_UNIX, 0, 0, _ALL, inode, _UDIAG_SHOW_RQLEN, _ALL, _ALL)
    try:
        for message in _ask(request, 0, time.monotonic() + TIMEOUT_SECONDS):
            _, _, state, _, _, _, _ = _UNIX_MESSAGE.unpack_from(message, _HEADER.size)
            queue = _attributes(message, _HEADER.size + _UNIX_MESSAGE.size).get(_UNIX_DIAG_RQLEN)
            if state == _TCP_LISTEN and queue is not None:
                waiting, limit = _RQLEN.unpack_from(queue)
                return waiting, limit
    except (FileNotFoundError, struct.error):  # no such socket; or an answer that ends too early
        pass
    return None


def unix_sockets(deadline: float) -> UnixSockets:
    """Return the listening Unix sockets, and how many connections of each have unread data.

    Args:
        deadline: monotonic seconds.

    Raises:
        OSError: netlink is not available, did not answer in time, or answered more than can be read.
        struct.error: a message ends too early.
    """
    states = 1 << _TCP_LISTEN | 1 << _TCP_ESTABLISHED
    show = _UDIAG_SHOW_NAME | _UDIAG_SHOW_VFS | _UDIAG_SHOW_RQLEN
    request = _UNIX_REQUEST.pack(_AF_UNIX, 0, 0, states, 0, show, 0, 0)
    found = UnixSockets({}, Counter())
    for message in _ask(request, _NLM_F_DUMP, deadline):
        _, _, state, _, inode, _, _ = _UNIX_MESSAGE.unpack_from(message, _HEADER.size)
        attributes = _attributes(message, _HEADER.size + _UNIX_MESSAGE.size)
        name, queue = attributes.get(_UNIX_DIAG_NAME), attributes.get(_UNIX_DIAG_RQLEN)
        if name and queue:  # a client has no name as a rule
            address = name, attributes.get(_UNIX_DIAG_VFS, b"")
            if state == _TCP_LISTEN:
                found.listeners[inode] = address
            elif _RQLEN.unpack_from(queue)[0]:
                found.waiting[address] += 1
    return found


def tcp_port(family: int, port: int, deadline: float) -> TcpPort:
    """Return the listening TCP sockets at a local port, and how many connections there have unread data.

    Args:
        family: AF_INET or AF_INET6. A connection has the family of its listener, IPv4-mapped ones included.
        port: local port. A client of this port has it as its remote port, and is not included.
        deadline: monotonic seconds.

    Raises:
        OSError: netlink is not available, did not answer in time, or answered more than can be read.
        struct.error: a message ends too early.
    """
    states = 1 << _TCP_LISTEN | 1 << _TCP_ESTABLISHED | 1 << _TCP_CLOSE_WAIT
    # Each comparison goes on at ``yes``, or jumps behind the end at ``no``, which rejects the socket.
    only = _FILTER.pack(_INET_DIAG_BC_S_GE, 8, 20, port, _INET_DIAG_BC_S_LE, 8, 12, port)
    request = _TCP_REQUEST.pack(family, _IPPROTO_TCP, 0, 0, states)
    request += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(only), _INET_DIAG_REQ_BYTECODE) + only
    width = 4 if family == socket.AF_INET else 16
    found = TcpPort([], Counter())
    for message in _ask(request, _NLM_F_DUMP, deadline):
        state, address, queue, limit, _, inode = _TCP_MESSAGE.unpack_from(message, _HEADER.size)
        if state == _TCP_LISTEN:
            found.listeners.append(TcpListener(address[:width], inode, queue, limit))
        elif inode and queue > (state == _TCP_CLOSE_WAIT):
            found.waiting[address[:width]] += 1
    return found


def _ask(request: bytes, flags: int, deadline: float) -> list[bytes]:
    """Return the messages with which the kernel answers this request. No descriptor is open before or after.

    Raises:
        OSError: netlink is not available, the kernel refuses, or it did not answer in time, or too much, or not to the
            end of a dump.
    """
    messages: list[bytes] = []
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | flags, _SEQUENCE, 0)
    netlink = unpatched("socket", "socket")(
        unpatched("socket", "AF_NETLINK"), unpatched("socket", "SOCK_DGRAM"), _NETLINK_SOCK_DIAG
    )
    try:
        netlink.sendto(header + request, (0, 0))
        size = 0
        while size <= MAX_ANSWER_BYTES:
            left = deadline - time.monotonic()
            if left <= 0.0:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            netlink.settimeout(left)
            answer: bytes = netlink.recv(65536)
            size += len(answer)
            if not _split(answer, messages):
                return messages
    finally:
        netlink.close()
    raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))


def _split(answer: bytes, messages: list[bytes]) -> bool:
    """Append the messages in one datagram of an answer. Return whether more datagrams follow."""
    at = 0
    more = False
    while at + _HEADER.size <= len(answer):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(answer, at)
        more = bool(flags & _NLM_F_MULTI)
        if sequence != _SEQUENCE or kind == _NLMSG_DONE:
            return False
        if kind == _NLMSG_ERROR and at + _HEADER.size + _ERROR.size <= len(answer):
            (code,) = _ERROR.unpack_from(answer, at + _HEADER.size)
            raise OSError(-code, os.strerror(-code))
        if kind == _SOCK_DIAG_BY_FAMILY:
            messages.append(answer[at : at + length])
        at += max(_HEADER.size, (length + 3) & ~3)  # a length of 0 would never get past it
    return more


def _attributes(message: bytes, at: int) -> dict[int, bytes]:
    """Return the attributes of a message from an offset on, by type."""
    found = {}
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        found[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return found
