"""Asks the kernel for the accept queue of a listening Unix socket, over netlink, as ``ss -xl`` does.

All numbers are in the byte order of the machine. The request is two structs:

======================== =============================== =======================================================
struct nlmsghdr          u32 nlmsg_len                   of the whole message
(linux/netlink.h)        u16 nlmsg_type                  SOCK_DIAG_BY_FAMILY = 20 (linux/sock_diag.h)
                         u16 nlmsg_flags                 NLM_F_REQUEST = 1
                         u32 nlmsg_seq                   comes back in the answer
                         u32 nlmsg_pid                   0: the kernel fills it in
struct unix_diag_req     u8  sdiag_family                AF_UNIX = 1
(linux/unix_diag.h)      u8  sdiag_protocol              0
                         u16 pad                         0
                         u32 udiag_states                all ones: in whatever state it is
                         u32 udiag_ino                   what fstat() gives as the socket's st_ino
                         u32 udiag_show                  UDIAG_SHOW_RQLEN = 0x10
                         u32 udiag_cookie[2]             all ones, INET_DIAG_NOCOOKIE: the inode is enough
======================== =============================== =======================================================

The answer is a struct nlmsghdr of type SOCK_DIAG_BY_FAMILY, or of type NLMSG_ERROR if the kernel refuses, then:

======================== =============================== =======================================================
struct unix_diag_msg     u8  udiag_family, udiag_type
(linux/unix_diag.h)      u8  udiag_state                 TCP_LISTEN = 10 (net/tcp_states.h), for Unix sockets too
                         u8  pad
                         u32 udiag_ino, udiag_cookie[2]
struct nlattr            u16 nla_len                     of the attribute with this header; the next one begins at
(linux/netlink.h)                                        the next multiple of NLA_ALIGNTO = 4
                         u16 nla_type                    UNIX_DIAG_RQLEN = 4 (linux/unix_diag.h)
struct unix_diag_rqlen   u32 udiag_rqueue                of a listening socket: connections that wait
(linux/unix_diag.h)      u32 udiag_wqueue                of a listening socket: the limit from listen()
======================== =============================== =======================================================

Attributes of other types may come before and after it.
"""

from __future__ import annotations

import struct

from ..native import original

TIMEOUT_SECONDS = 0.5
"""The kernel answers before send() returns; should it ever not, the master's exporter thread must not hang."""

_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_TCP_LISTEN = 10
_AF_UNIX = 1
_ALL = 0xFFFFFFFF
_SEQUENCE = 1

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_RQLEN = struct.Struct("=II")


def unix_backlog(inode: int) -> tuple[int, int] | None:
    """Connections that wait at the Unix socket with this inode, and their limit; None if it is no listener.

    Raises:
        OSError: there is no netlink to ask, or no answer came.
    """
    if inode > _ALL:  # no socket of a kernel that could answer
        return None
    request = _HEADER.pack(
        _HEADER.size + _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _SEQUENCE, 0
    ) + _REQUEST.pack(_AF_UNIX, 0, 0, _ALL, inode, _UDIAG_SHOW_RQLEN, _ALL, _ALL)
    netlink = original("socket", "socket")(
        original("socket", "AF_NETLINK"), original("socket", "SOCK_DGRAM"), _NETLINK_SOCK_DIAG
    )
    try:
        netlink.settimeout(TIMEOUT_SECONDS)
        netlink.sendto(request, (0, 0))
        answer: bytes = netlink.recv(4096)
    finally:
        netlink.close()
    try:
        return _queue(answer)
    except struct.error:  # it ends too early
        return None


def _queue(answer: bytes) -> tuple[int, int] | None:
    _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or sequence != _SEQUENCE:
        return None
    _, _, state, _, _, _, _ = _MESSAGE.unpack_from(answer, _HEADER.size)
    if state != _TCP_LISTEN:
        return None
    offset = _HEADER.size + _MESSAGE.size
    while offset < len(answer):
        length, attribute = _ATTRIBUTE.unpack_from(answer, offset)
        if attribute == _UNIX_DIAG_RQLEN:
            waiting, limit = _RQLEN.unpack_from(answer, offset + _ATTRIBUTE.size)
            return waiting, limit
        offset += max(_ATTRIBUTE.size, (length + 3) & ~3)  # a length of 0 would never get past it
    return None
