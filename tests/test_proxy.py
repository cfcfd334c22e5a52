"""The proxy does to connections what it says, and leaves nothing behind."""

import gc
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.services.process import free_port, until
from tests.services.proxy import Proxy

SOON = 0.1
"""Seconds in which something would have come that does not."""


class Echo(socketserver.ThreadingTCPServer):
    """It says what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.faults: list[OSError] = []
        self.connections: list[socket.socket] = []
        self._resets = False
        super().__init__(("127.0.0.1", 0), Echoing)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def end(self, *, resets: bool = False) -> None:
        """Close all connections, from the server's side."""
        self._resets = resets
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RD)  # its handler has waited for this

    def shutdown_request(self, request: Any) -> None:
        if self._resets:
            reset(request)
        else:
            super().shutdown_request(request)


class Echoing(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        self.server.connections.append(self.request)
        try:
            while data := self.request.recv(65_536):
                self.server.heard += data
                self.request.sendall(data)
        except OSError as fault:
            self.server.faults.append(fault)


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as between:
        yield between


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection that passes already."""
    with connected(proxy) as connection:
        assert b"hello" == asked(connection, b"hello")
        yield connection


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def asked(client: socket.socket, data: bytes) -> bytes:
    """What comes back, as many bytes as went or up to the end."""
    client.sendall(data)
    return received(client, len(data))


def received(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def hears_nothing(client: socket.socket) -> bool:
    """Neither data nor an end."""
    client.settimeout(SOON)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class TestNothing:
    """A proxy that is told nothing is as good as none."""

    def test_much_passes_whole(self, client: socket.socket) -> None:
        """More than any buffer holds, in both directions at once."""
        data = os.urandom(1 << 20)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert data == received(client, len(data))
        sender.join()

    def test_an_end_passes_and_answers_still_come(
        self, proxy: Proxy, client: socket.socket
    ) -> None:
        """A side that stops sending may go on receiving."""
        proxy.delay = SOON
        client.sendall(b"last")
        client.shutdown(socket.SHUT_WR)
        assert b"last" == received(client, 100)

    def test_the_servers_end_passes(self, client: socket.socket, echo: Echo) -> None:
        """Cleanly."""
        echo.end()
        assert "cut_after" == ended(client)

    def test_the_servers_reset_passes(self, client: socket.socket, echo: Echo) -> None:
        """As a reset."""
        echo.end(resets=True)
        assert "reset_after" == ended(client)

    def test_the_clients_reset_passes(self, client: socket.socket, echo: Echo) -> None:
        """As a reset."""
        reset(client)
        until(lambda: echo.faults, "a reset")
        assert isinstance(echo.faults[0], ConnectionResetError)

    def test_a_server_that_is_down_is_a_reset(self) -> None:
        """The proxy itself is there."""
        with (
            Proxy(free_port()) as proxy,
            pytest.raises(ConnectionResetError),
            connected(proxy) as client,
        ):
            client.recv(1)

    def test_it_counts(self, proxy: Proxy, client: socket.socket) -> None:
        """Connections since it began, and bytes from clients."""
        with connected(proxy) as other:
            asked(other, b"12345")
        assert (2, len(b"hello12345")) == (proxy.connections, proxy.from_client)

    def test_it_counts_who_is_there(self, proxy: Proxy, client: socket.socket) -> None:
        """A client that ended is not, nor one that was reset, though nothing of it passes."""
        with connected(proxy) as other:
            asked(other, b"12345")
            assert 2 == proxy.open_connections
            proxy.silent = True
        until(lambda: proxy.open_connections == 1, "the end of one")
        reset(client)
        until(lambda: proxy.open_connections == 0, "the end of both")

    def test_who_was_cut_off_is_not_there(self, proxy: Proxy, client: socket.socket) -> None:
        """From that moment on."""
        assert 1 == proxy.open_connections
        proxy.cut_all()
        assert 0 == proxy.open_connections


class TestDelays:
    def test_an_answer_is_held_back(self, proxy: Proxy, client: socket.socket) -> None:
        """For as long as was said."""
        proxy.delay = 0.2
        began = time.monotonic()
        assert b"late" == asked(client, b"late")
        assert time.monotonic() - began >= 0.2

    def test_a_dribble_is_a_byte_at_a_time(self, proxy: Proxy, client: socket.socket) -> None:
        """Each as late after the one before."""
        proxy.dribble, proxy.delay = True, 0.05
        began = time.monotonic()
        assert b"late" == asked(client, b"late")
        assert time.monotonic() - began >= 4 * 0.05

    def test_healed_it_is_fast_again(self, proxy: Proxy, client: socket.socket) -> None:
        """For what comes from now on."""
        proxy.dribble, proxy.delay = True, 3600
        proxy.heal()
        assert b"swift" == asked(client, b"swift")


@pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
class TestCuts:
    """Answers that end in the middle."""

    @pytest.mark.parametrize("size", [0, 1, 4, 5])
    def test_so_many_more_bytes_come(
        self, proxy: Proxy, client: socket.socket, fault: str, size: int
    ) -> None:
        """What came before does not count; then there is an end, or a reset."""
        setattr(proxy, fault, size)
        client.sendall(b"12345")
        assert b"12345"[:size] == received(client, size)
        assert fault == ended(client)

    def test_each_connection_gets_as_many(
        self, proxy: Proxy, client: socket.socket, fault: str
    ) -> None:
        """Not all of them together."""
        setattr(proxy, fault, 4)
        with connected(proxy) as other:
            for each in (client, other):
                each.sendall(b"12345")
                assert b"1234" == received(each, 4)
                assert fault == ended(each)

    def test_answers_are_added_up(self, proxy: Proxy, client: socket.socket, fault: str) -> None:
        """Up to the limit a connection works."""
        setattr(proxy, fault, 5)
        assert b"123" == asked(client, b"123")
        client.sendall(b"456")
        assert b"45" == received(client, 2)
        assert fault == ended(client)

    def test_a_dribble_is_cut_too(self, proxy: Proxy, client: socket.socket, fault: str) -> None:
        """At the same byte."""
        proxy.dribble = True
        setattr(proxy, fault, 2)
        client.sendall(b"12345")
        assert b"12" == received(client, 2)
        assert fault == ended(client)

    def test_the_server_got_the_request(
        self, proxy: Proxy, client: socket.socket, echo: Echo, fault: str
    ) -> None:
        """It is the answer that is lost."""
        setattr(proxy, fault, 0)
        client.sendall(b"12345")
        ended(client)
        assert b"hello12345" == echo.heard

    def test_healed_nothing_is_cut(self, proxy: Proxy, client: socket.socket, fault: str) -> None:
        """Nor is it shown as set."""
        setattr(proxy, fault, 1)
        assert 1 == getattr(proxy, fault)
        proxy.heal()
        assert b"12345" == asked(client, b"12345")
        assert (None, None) == (proxy.cut_after, proxy.reset_after)


def ended(client: socket.socket) -> str:
    """Which of the faults the client sees."""
    try:
        assert b"" == client.recv(1)
    except ConnectionResetError:
        return "reset_after"
    return "cut_after"


class TestLosses:
    def test_one_answer_is_lost_after_so_many(self, proxy: Proxy, client: socket.socket) -> None:
        """On whichever connection it is due; those after it come."""
        proxy.lose = 2
        with connected(proxy) as other:
            assert [b"1", b"2"] == [asked(client, b"1"), asked(other, b"2")]
            client.sendall(b"3")
            assert "reset_after" == ended(client)
            assert b"4" == asked(other, b"4")

    def test_healed_none_is_lost(self, proxy: Proxy, client: socket.socket) -> None:
        """Though one was due."""
        proxy.lose = 0
        proxy.heal()
        assert b"1" == asked(client, b"1")


class TestSilence:
    def test_nothing_passes_to_the_server(
        self, proxy: Proxy, client: socket.socket, echo: Echo
    ) -> None:
        """What was sent meanwhile comes afterwards."""
        proxy.silent = True
        client.sendall(b"anyone?")
        assert hears_nothing(client)
        assert b"hello" == echo.heard
        proxy.heal()
        assert b"anyone?" == received(client, 7)

    def test_nothing_passes_to_the_client(
        self, proxy: Proxy, client: socket.socket, echo: Echo
    ) -> None:
        """What was sent meanwhile comes afterwards."""
        proxy.silent = True
        echo.connections[0].sendall(b"anyone?")
        assert hears_nothing(client)
        proxy.heal()
        assert b"anyone?" == received(client, 7)

    def test_what_was_held_back_is_silenced(self, proxy: Proxy, client: socket.socket) -> None:
        """The silence began while the answer was on its way."""
        proxy.delay = SOON / 2
        proxy.on_answer = lambda data: setattr(proxy, "silent", True)
        client.sendall(b"anyone?")
        assert hears_nothing(client)
        proxy.heal()
        assert b"anyone?" == received(client, 7)

    def test_a_new_connection_is_made(self, proxy: Proxy) -> None:
        """And hears nothing either."""
        proxy.silent = True
        with connected(proxy) as client:
            client.sendall(b"anyone?")
            assert hears_nothing(client)

    @pytest.mark.parametrize("how", ["cut_after", "reset_after"])
    def test_it_is_not_told_of_the_servers_end(
        self, proxy: Proxy, client: socket.socket, echo: Echo, how: str
    ) -> None:
        """The connection stays open, as it does when a cable is cut."""
        proxy.silent = True
        echo.end(resets=how == "reset_after")
        assert hears_nothing(client)
        proxy.heal()
        assert how == ended(client)


class TestConnections:
    def test_who_is_refused_is_not_connected(self, proxy: Proxy) -> None:
        """As where nobody listens."""
        proxy.refuse = True
        assert proxy.refuse
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        assert 0 == proxy.connections

    def test_who_is_connected_goes_on(self, proxy: Proxy, client: socket.socket) -> None:
        """Only new connections are refused."""
        proxy.refuse = True
        assert b"still" == asked(client, b"still")

    def test_healed_it_listens_on_the_same_port(self, proxy: Proxy, client: socket.socket) -> None:
        """However often that was said before."""
        port = proxy.port
        proxy.refuse = True
        proxy.refuse = True
        proxy.heal()
        proxy.heal()
        assert port == proxy.port
        with connected(proxy) as other:
            assert b"again" == asked(other, b"again")

    def test_all_are_reset(self, proxy: Proxy, client: socket.socket) -> None:
        """Those there are; the next one is well."""
        with connected(proxy) as other:
            asked(other, b"hello")
            proxy.cut_all()
            client.settimeout(0)  # it is done already
            other.settimeout(0)
            assert ["reset_after"] * 2 == [ended(client), ended(other)]
        with connected(proxy) as other:
            assert b"again" == asked(other, b"again")

    def test_the_server_sees_the_reset_too(
        self, proxy: Proxy, client: socket.socket, echo: Echo
    ) -> None:
        """Its end is cut as well."""
        proxy.cut_all()
        until(lambda: echo.faults, "a reset")


class TestCalls:
    def test_a_request_is_seen_before_the_server_has_it(
        self, proxy: Proxy, client: socket.socket, echo: Echo
    ) -> None:
        """So that something can be done in between."""
        seen: list[Any] = []
        proxy.on_request = lambda data: seen.append((data, echo.heard))
        asked(client, b"12345")
        assert [(b"12345", b"hello")] == seen

    def test_an_answer_is_seen_before_the_client_has_it(
        self, proxy: Proxy, client: socket.socket, echo: Echo
    ) -> None:
        """When the server has long done what was asked."""
        seen: list[Any] = []
        proxy.on_answer = lambda data: seen.append((data, echo.heard))
        asked(client, b"12345")
        assert [(b"12345", b"hello12345")] == seen

    def test_a_request_may_cut_its_own_answer(self, proxy: Proxy, client: socket.socket) -> None:
        """What it sets holds for the answer."""
        proxy.on_request = lambda data: setattr(proxy, "cut_after", 0)
        assert b"" == asked(client, b"12345")

    def test_an_answer_heals_the_next(self, proxy: Proxy, client: socket.socket) -> None:
        """It is lost itself."""
        proxy.cut_after = 0
        proxy.on_answer = lambda data: setattr(proxy, "cut_after", None)
        assert b"" == asked(client, b"12345")
        with connected(proxy) as other:
            assert b"12345" == asked(other, b"12345")

    def test_a_request_may_cut_all(self, proxy: Proxy, client: socket.socket) -> None:
        """From the proxy's own thread, without waiting for itself."""
        proxy.on_request = lambda data: proxy.cut_all()
        client.sendall(b"12345")
        assert "reset_after" == ended(client)

    def test_a_request_may_be_the_last_that_is_let_in(
        self, proxy: Proxy, client: socket.socket
    ) -> None:
        """New connections are refused from then on."""
        proxy.on_request = lambda data: setattr(proxy, "refuse", True)
        assert b"12345" == asked(client, b"12345")
        until(lambda: proxy.refuse, "a refusal")
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)

    def test_healed_nobody_is_called(self, proxy: Proxy, client: socket.socket) -> None:
        """Neither of the two."""
        seen: list[bytes] = []
        proxy.on_request = proxy.on_answer = seen.append
        asked(client, b"1")
        assert [b"1", b"1"] == seen
        proxy.heal()
        asked(client, b"2")
        assert [b"1", b"1"] == seen


class TestEnd:
    """When the block ends, so does everything in it."""

    def test_no_thread_and_no_socket_is_left(
        self, echo: Echo, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever its connections were doing."""
        threads, files = set(threading.enumerate()), open_files()
        with Proxy(echo.port) as proxy:
            clients = [connected(proxy) for _ in range(4)]
            for client in clients:
                asked(client, b"hello")
            clients[0].close()
            clients[1].shutdown(socket.SHUT_WR)
            proxy.delay = 3600
            clients[2].sendall(b"delayed")
            until(lambda: proxy.from_client == 4 * 5 + 7, "a delay")
            proxy.silent = True
            clients[3].sendall(b"silenced")
            assert set(threading.enumerate()) - threads  # those of other tests may end meanwhile
        for client in clients:
            client.close()
        until(lambda: threads >= set(threading.enumerate()), "the end of all threads")
        assert files >= open_files()
        assert [] == caplog.records

    def test_clients_see_a_reset(self, echo: Echo) -> None:
        """Not an end that could be taken for the end of an answer."""
        with Proxy(echo.port) as proxy:
            client = connected(proxy)
            asked(client, b"hello")
        with closing(client):
            assert "reset_after" == ended(client)

    def test_one_that_refuses_ends(self, echo: Echo) -> None:
        """There is nothing to close any more."""
        with Proxy(echo.port) as proxy:
            proxy.refuse = True
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)

    def test_one_that_was_never_entered_holds_nothing(self) -> None:
        """No loop, no socket."""
        files = open_files()
        Proxy(1)
        assert files >= open_files()


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))
