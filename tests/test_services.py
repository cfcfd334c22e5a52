"""The real servers that the tests run against come up, are reached, break as told, and end."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.services import redis as services
from tests.services.process import until
from tests.services.redis import HOST, Cluster, Redis, Secured, Sentinels
from tests.sites import KEPT as KINDS


def over_tcp(server: Redis, **options: Any) -> redis.Redis:
    """A client that comes by the port, as a store's does, and asks once."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis(HOST, server.port, socket_timeout=0.5, retry=once, **options)


def is_refused(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((HOST, port)) != 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_laws_wait_for_a_busy_machine(kind: str, tmp_path: Path) -> None:
    """Where no outage is asked for, a machine that stands still for a second is none."""
    url, _ = KINDS[kind]
    assert ["10"] == parse_qs(urlsplit(url(tmp_path)).query)["timeout"]


def test_a_server_is_reached_by_its_port() -> None:
    """What a client writes over TCP is what the test sees past it."""
    with Redis() as server, over_tcp(server) as client:
        client.set("key", "value")
        assert b"value" == server.ask("GET", "key")


def test_options_reach_the_server() -> None:
    """Keywords and lines are both of the configuration."""
    with Redis("maxclients 77", maxmemory_policy="noeviction", save="60 1 70 2") as server:
        assert [b"save", b"60 1 70 2"] == server.ask("CONFIG", "GET", "save")
        assert [b"maxclients", b"77"] == server.ask("CONFIG", "GET", "maxclients")


def test_a_stopped_server_is_gone() -> None:
    """After the block nobody listens on its port."""
    with Redis() as server:
        assert not is_refused(server.port)
    assert is_refused(server.port)
    assert not server.answers


def test_a_killed_server_comes_back_on_its_port() -> None:
    """It has forgotten everything, since it keeps nothing on disk."""
    with Redis() as server:
        server.ask("SET", "key", "value")
        server.service.kill()
        assert is_refused(server.port)
        server.service.start()
        assert server.ask("GET", "key") is None


def test_a_server_told_to_keep_its_data_keeps_it() -> None:
    """With the append-only file, what was acknowledged is there after a kill."""
    with Redis(appendonly="yes", appendfsync="always") as server:
        server.ask("SET", "key", "value")
        server.service.kill()
        server.service.start()
        assert b"value" == server.ask("GET", "key")


def test_a_frozen_server_answers_when_thawed() -> None:
    """Until then its port takes connections, and nothing comes back."""
    with Redis() as server, over_tcp(server) as client:
        server.service.freeze()
        assert not server.answers
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        server.service.thaw()
        assert server.answers


def test_a_port_that_was_taken_meanwhile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server comes up on another one."""
    with Redis() as other:
        ports = iter([other.port, other.port])
        free_port = services.Redis.start.__globals__["free_port"]
        monkeypatch.setitem(
            services.Redis.start.__globals__, "free_port", lambda: next(ports, None) or free_port()
        )
        with Redis() as server:
            assert server.port != other.port
            assert server.answers


def test_a_server_that_cannot_start_says_why() -> None:
    """Its own words are in the error."""
    with pytest.raises(AssertionError, match="no-such-option"):
        Redis(no_such_option="yes").start()


def test_the_secured_one_is_reached_with_all_it_asks_for(tmp_path: Path) -> None:
    """Its URL is one that the driver itself understands, prefix apart."""
    url = services.secured_url(tmp_path).partition("&prefix")[0]
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_the_secured_one_speaks_tls_alone() -> None:
    """Without it there is no answer."""
    with over_tcp(services.secured()) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_the_secured_one_has_a_certificate_that_only_its_authority_vouches_for() -> None:
    """Whoever trusts others alone does not connect."""
    server = services.secured()
    for context, is_trusted in (
        (ssl.create_default_context(), False),
        (ssl.create_default_context(cafile=server.authority), True),
    ):
        with socket.create_connection((HOST, server.port)) as connection:
            try:
                context.wrap_socket(connection, server_hostname="localhost").close()
            except ssl.SSLCertVerificationError:
                assert not is_trusted
            else:
                assert is_trusted


@pytest.mark.parametrize(("user", "password"), [(Secured.user, "wrong"), (None, None)])
def test_the_secured_one_knows_its_users(user: str | None, password: str | None) -> None:
    """A wrong password is refused, and so is none."""
    server = services.secured()
    login = {"username": user, "password": password, "ssl_ca_certs": str(server.authority)}
    with (
        over_tcp(server, ssl=True, **login) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_a_dead_master_is_replaced() -> None:
    """The Sentinels name a replica, and take the old one back as a replica of the new."""
    with Sentinels() as group:
        old = group.master()
        old.service.kill()
        until(lambda: group.master() is not old, "a failover", 120.0)
        group.wait_until_healed()
        old.service.start()
        group.wait_until_healed()
        assert [b"slave", HOST.encode(), group.master().port] == old.ask("ROLE")[:3]


def test_a_living_master_is_replaced_on_demand() -> None:
    """What it held moves with the office."""
    with Sentinels() as group:
        old = group.master()
        old.ask("SET", "key", "value")
        new = group.failover()
        assert new is not old
        assert b"value" == new.ask("GET", "key")


def test_the_sentinels_are_reached_by_the_driver() -> None:
    """They tell it where the master is."""
    group = services.sentinels()
    hosts = [(HOST, port) for port in group.sentinel_ports]
    watch: Any = Sentinel(hosts)  # type: ignore[no-untyped-call]
    assert (HOST, group.master().port) == watch.discover_master(group.service_name)


def test_the_cluster_is_reached_by_the_driver() -> None:
    """Keys of every master are written and read, whichever node is asked first."""
    with RedisCluster(HOST, services.cluster().ports[-1]) as client:
        keys = [f"key-{number}" for number in range(30)]
        for key in keys:
            client.set(key, key, ex=60)
        assert [key.encode() for key in keys] == [client.get(key) for key in keys]
        owners = {services.cluster().master_of(key).port for key in keys}
        assert {master.port for master in services.cluster().masters()} == owners


def test_a_slot_moves_with_its_keys() -> None:
    """In between, the old owner sends those who ask for an absent key to the new one."""
    with Cluster() as cluster:
        slot, old = cluster.slot_of("{tag}"), cluster.master_of("{tag}")
        new = next(master for master in cluster.masters() if master is not old)
        old.ask("SET", "{tag}1", "value")
        cluster.start_moving(slot, new)
        with pytest.raises(redis.exceptions.AskError):
            old.ask("GET", "{tag}2")
        cluster.finish_moving(slot, new)
        assert new is cluster.master_of("{tag}")
        assert b"value" == new.ask("GET", "{tag}1")


def test_a_dead_node_of_the_cluster_is_replaced() -> None:
    """Its replica takes the slots over, with what is in them, and it comes back as a replica."""
    with Cluster() as cluster:
        old = cluster.master_of("key")
        heir = cluster.replica_of(old)
        old.ask("SET", "key", "value")
        assert 1 == old.ask("WAIT", 1, 1000)
        old.service.kill()
        cluster.wait_until_healed()
        assert heir is cluster.master_of("key")
        assert b"value" == heir.ask("GET", "key")
        old.service.start()
        cluster.wait_until_healed()
        assert old is cluster.replica_of(heir)


Kept = tuple[Callable[[Path], Redis], Callable[[Path], str], Callable[[Path], bytes]]

KEPT: dict[str, Kept] = {
    "single": (lambda _: services.single(), services.url, services.dump),
    "secured": (lambda _: services.secured(), services.secured_url, services.secured_dump),
    "sentinels": (
        lambda _: services.sentinels().master(),
        services.sentinel_url,
        services.sentinel_dump,
    ),
    "cluster": (
        lambda folder: services.cluster().master_of(services.prefix(folder) + "key"),
        services.cluster_url,
        services.cluster_dump,
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_dump_shows_what_is_kept_for_a_folder(kind: str, tmp_path: Path) -> None:
    """Strings and members as they are, and nothing of another folder's."""
    where, url, dump = KEPT[kind]
    server, key = where(tmp_path), services.prefix(tmp_path) + "key"
    assert f"prefix={services.prefix(tmp_path)}" in url(tmp_path)
    server.ask("SET", key, "value")
    assert key.encode() + b"\nvalue" == dump(tmp_path)
    assert b"" == dump(tmp_path / "other")


@pytest.mark.parametrize(
    "command", ["SET key text", "ZADD key 7 text", "HSET key field text", "RPUSH key text"]
)
def test_a_dump_is_legible_for_every_type(command: str, tmp_path: Path) -> None:
    """A long text that repeats itself is not packed."""
    text = "planted" * 40
    words = command.replace("key", services.prefix(tmp_path)).replace("text", text).split()
    services.single().ask(*words)
    assert text.encode() in services.dump(tmp_path)
