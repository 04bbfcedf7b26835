"""The private servers that other tests rely on: they can be taken away and brought back, and leave nothing behind."""

import signal
from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers import postgresql_server, redis_server


def test_postgresql_can_crash_and_come_back_with_its_data():
    with postgresql_server(fsync="on") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        server.stop(signal.SIGQUIT)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url, connect_timeout=2)
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
            directory = Path(connection.execute("SHOW data_directory").fetchone()[0])
    assert not directory.exists()


def test_redis_can_be_frozen_and_let_go():
    with redis_server() as server, redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
        assert client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
    with pytest.raises(redis.ConnectionError):
        client.ping()
