"""Socket options of a link."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

LOCAL_BUFFER: Final = 2 << 20
"""Bytes asked for the send and receive buffers of a link within one host; the system may grant
fewer. Links between hosts keep the system's own, growing buffers."""


def tune(sock: socket.socket) -> None:
    """Send at once; within one host also leave out what congestion control costs."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sock.getsockname()[0] != sock.getpeername()[0]:
        return
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, LOCAL_BUFFER)
    # Algorithms that pace (BBR) spend as much processor time on timers as on copying.
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
