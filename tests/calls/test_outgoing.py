"""Posting to a checked address, and getting from one, with real servers: under its name, and not for too long."""

import asyncio
import datetime
import ipaddress
import re
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from calls.addresses import AddressRefused, check_outgoing
from calls.outgoing import Failure, get, post
from tests.audio import Reply, audio_store
from tests.sinks import web_sink

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]
NAME = "hooks.example.com"


@pytest.fixture
def sink():
    with web_sink() as sink:
        yield sink


def checked(url, *addresses):
    return check_outgoing(url, allowed=LOOPBACK, resolver=lambda host, port: addresses or ("127.0.0.1",))


def test_it_connects_to_the_checked_address_under_the_name(sink):
    assert post(checked(f"http://{NAME}:{sink.port}/in?key=1"), b"hello", {"X-One": "1"}).status == 200
    path, headers, body = sink.posts[0]
    assert (path, headers["Host"], headers["X-One"], body) == ("/in?key=1", f"{NAME}:{sink.port}", "1", b"hello")


def test_it_goes_on_to_the_next_address_when_one_refuses(sink):
    assert post(checked(f"http://{NAME}:{sink.port}/", "127.9.9.9", "127.0.0.1"), b"", {}).status == 200


def test_it_follows_no_redirect(sink):
    sink.answer = lambda post: 302
    assert post(checked(f"http://{NAME}:{sink.port}/in"), b"", {}).status == 302
    assert [one.path for one in sink.posts] == ["/in"]


def test_it_takes_no_certificate_but_one_of_the_name(sink, tmp_path):
    certificate = self_signed(NAME, tmp_path / "server.pem")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    sink.server.socket = server_side.wrap_socket(sink.server.socket, server_side=True)
    ours = ssl.create_default_context(cafile=certificate)
    assert post(checked(f"https://{NAME}:{sink.port}/"), b"", {}, ssl_context=ours).status == 200
    with pytest.raises(Failure, match="not valid for"):
        post(checked(f"https://other.example.com:{sink.port}/"), b"", {}, ssl_context=ours)
    with pytest.raises(Failure, match="self-signed"):
        post(checked(f"https://{NAME}:{sink.port}/"), b"", {})


@pytest.mark.parametrize("begins_with", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_that_drips_in_is_given_up_in_time(begins_with):
    """Each byte comes well within the time limit of a single read."""
    is_over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            connection, _ = listener.accept()
            connection.sendall(begins_with)
            while not is_over.wait(0.05):
                try:
                    connection.sendall(b"x" if begins_with else b"")
                except OSError:
                    break
            connection.close()

        dripping = threading.Thread(target=drip)
        dripping.start()
        began = time.monotonic()
        with pytest.raises(Failure):
            post(checked(f"http://{NAME}:{listener.getsockname()[1]}/"), b"", {}, seconds=0.5)
        assert time.monotonic() - began < 60  # without the limit it would not end at all
        is_over.set()
        dripping.join()


@pytest.fixture
def store():
    with audio_store() as store:
        yield store


def got(url, *, resolver=lambda host, port: ["127.0.0.1"], seconds=10.0):
    """Get ``url`` to the end: status and body."""

    async def run():
        answer = await get(url, {}, allowed=LOOPBACK, resolver=resolver, seconds=seconds)
        try:
            return answer.status, b"".join([piece async for piece in answer.pieces()])
        finally:
            await answer.aclose()

    return asyncio.run(run())


def test_a_get_connects_to_the_address_that_was_checked_under_the_name(store):
    """A name that leads elsewhere when it is looked up again is not looked up again."""
    lookups = []

    def resolver(host, port):
        lookups.append(host)
        return ["127.0.0.1"] if len(lookups) == 1 else ["10.0.0.1"]

    assert got(f"http://{NAME}:{store.port}/1.wav", resolver=resolver) == (200, store.file)
    assert lookups == [NAME]
    assert store.asks[0].headers["Host"] == f"{NAME}:{store.port}"


def test_a_get_goes_on_to_the_next_address_when_one_refuses(store):
    assert got(f"http://{NAME}:{store.port}/", resolver=lambda host, port: ["127.9.9.9", "127.0.0.1"])[0] == 200


def test_a_get_checks_each_address_that_it_is_led_to(store):
    store.reply = lambda ask: Reply(302, {"Location": f"http://inside.example.com:{store.port}/2"})
    addresses = {NAME: ["127.0.0.1"], "inside.example.com": ["127.0.0.1", "10.0.0.1"]}
    with pytest.raises(AddressRefused, match=re.escape("inside.example.com leads to 10.0.0.1")):
        got(f"http://{NAME}:{store.port}/", resolver=lambda host, port: addresses[host])
    assert len(store.asks) == 1


def test_a_get_takes_no_certificate_but_one_of_the_name(store, tmp_path):
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(self_signed(NAME, tmp_path / "server.pem"))
    store.server.socket = server_side.wrap_socket(store.server.socket, server_side=True)
    with pytest.raises(Failure, match="self-signed"):
        got(f"https://{NAME}:{store.port}/")


@pytest.mark.parametrize(
    "begins_with", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_get_gives_up_on_an_answer_that_does_not_come(begins_with):
    """Within the headers, or in the middle of the body."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def begin():
            connection, _ = listener.accept()
            connection.sendall(begins_with)
            connection.recv(65536)
            while connection.recv(65536):  # until the other side has had enough
                pass
            connection.close()

        beginning = threading.Thread(target=begin)
        beginning.start()
        with pytest.raises(Failure):
            got(f"http://{NAME}:{listener.getsockname()[1]}/", seconds=0.5)
        beginning.join()


def self_signed(name, path):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
