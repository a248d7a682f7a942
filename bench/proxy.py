"""A TCP relay in front of PostgreSQL that adds latency, or counts what is sent."""

from __future__ import annotations

import multiprocessing
import select
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Address = tuple[str, int]


@dataclass(slots=True)
class Count:
    """What clients have sent so far.

    statements: Query and Execute messages. round_trips: how often a client waited, which is how often the server's
    bytes followed the client's.
    """

    statements: int = 0
    round_trips: int = 0


@dataclass(slots=True)
class Link:
    """One client and its connection to the server. pending: bytes of the client's message that is not complete."""

    client: socket.socket
    server: socket.socket
    pending: bytearray = field(default_factory=bytearray)
    started: bool = False
    waiting: bool = False

    def sent(self, data: bytes, count: Count) -> None:
        """Read the client's bytes: a type, a length that counts itself, and a body; the first message has no type."""
        self.waiting = True
        self.pending += data
        while True:
            head = 1 if self.started else 0
            if len(self.pending) < head + 4:
                return
            length = head + int.from_bytes(self.pending[head : head + 4], "big")
            if len(self.pending) < length:
                return
            if self.started and self.pending[:1] in (b"Q", b"E"):
                count.statements += 1
            self.started = True
            del self.pending[:length]

    def answered(self, count: Count) -> None:
        count.round_trips += self.waiting
        self.waiting = False


def relay(listener: socket.socket, target: Address, delay: float, count: Count, life: socket.socket) -> None:
    """Pass bytes on until the other end of life is closed.

    delay: seconds that what a client sends is held back, which is what a round trip takes longer. Bytes that follow
    each other are held back at the same time, so a pipeline stays one. The server's answers pass at once.
    """
    due: deque[tuple[float, Link, bytes]] = deque()
    links: dict[socket.socket, Link] = {}
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(life, selectors.EVENT_READ)

    def accept() -> None:
        client, _ = listener.accept()
        link = Link(client, socket.create_connection(target))
        for end in (link.client, link.server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            links[end] = link
            selector.register(end, selectors.EVENT_READ)

    def drop(link: Link) -> None:
        for end in (link.client, link.server):
            if links.pop(end, None) is not None:
                selector.unregister(end)
                end.close()

    def receive(end: socket.socket) -> None:
        link = links[end]
        data = end.recv(1 << 16)
        if not data:
            drop(link)
        elif end is link.client:
            link.sent(data, count)
            due.append((time.monotonic() + delay, link, data))
        else:
            link.answered(count)
            link.client.sendall(data)

    try:
        while True:
            # Not the selector's own timeout, which is rounded up to a millisecond.
            select.select([selector], [], [], max(0.0, due[0][0] - time.monotonic()) if due else None)
            for ready, _ in selector.select(0):
                if ready.fileobj is life:
                    return
                if ready.fileobj is listener:
                    accept()
                elif ready.fileobj in links:
                    try:
                        receive(ready.fileobj)
                    except ConnectionError:
                        drop(links[ready.fileobj])
            while due and due[0][0] <= time.monotonic():
                _, link, data = due.popleft()
                if link.server in links:
                    try:
                        link.server.sendall(data)
                    except ConnectionError:
                        drop(link)
    finally:
        for link in list(links.values()):
            drop(link)
        selector.close()


def _serve(listener: socket.socket, target: Address, delay: float, life: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    relay(listener, target, delay, Count(), life)


@contextmanager
def delaying(target: Address, delay: float) -> Iterator[Address]:
    """A relay in a process of its own, so that it takes no time of the clients'. Yields where it listens."""
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_serve, args=(listener, target, delay, theirs), daemon=True)
        process.start()
        try:
            yield listener.getsockname()
        finally:
            ours.close()
            process.join()
            theirs.close()


@contextmanager
def counting(target: Address) -> Iterator[tuple[Address, Count]]:
    """A relay in a thread that counts. Yields where it listens, and its count."""
    count = Count()
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay, args=(listener, target, 0.0, count, theirs), daemon=True)
        thread.start()
        try:
            yield listener.getsockname(), count
        finally:
            ours.close()
            thread.join()
            theirs.close()
