"""Outgoing addresses: which are refused, whatever way they are spelled or looked up."""

import ipaddress

import pytest

from calls.addresses import AddressRefused, check_outgoing

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


def leads_to(*addresses):
    return lambda host, port: addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "::127.0.0.1",
        "2001:0:7f00:1::f7f7:f7f7",
        "2001:0:808:808::80ff:fffe",
    ],
)
def test_it_refuses_an_address_inside(address):
    with pytest.raises(AddressRefused, match="not on the public internet"):
        check_outgoing("https://hooks.example.com/x", resolver=leads_to(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_it_takes_a_public_address(address):
    assert check_outgoing("https://hooks.example.com/x", resolver=leads_to(address)).addresses == (address,)


def test_one_inner_address_among_public_ones_is_enough_to_refuse():
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        check_outgoing("https://hooks.example.com/", resolver=leads_to("8.8.8.8", "10.0.0.1"))


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0",
        "①②⑦.0.0.1",
        "127。0。0。1",
    ],
)
def test_it_refuses_odd_spellings_of_this_machine(host):
    with pytest.raises(AddressRefused):
        check_outgoing(f"https://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "//hooks.example.com",
        "hooks.example.com",
        "https://",
        "https://user:pass@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/",
        "https://[fe80::1%25eth0]/",
        "",
        "https://a b/",
        "file:///etc/passwd",
    ],
)
def test_it_refuses_what_is_no_plain_https_address(url):
    with pytest.raises(AddressRefused):
        check_outgoing(url, resolver=leads_to("8.8.8.8"))


def test_it_looks_an_international_name_up_in_its_ascii_form():
    asked = []
    check_outgoing("https://bücher.example./", resolver=lambda host, port: asked.append((host, port)) or ["8.8.8.8"])
    assert asked == [("xn--bcher-kva.example", 443)]


def test_plain_http_is_for_allowed_networks_only():
    allowed = [ipaddress.ip_network("10.1.0.0/16")]
    url = "http://hooks.example.com:8080/x"
    assert check_outgoing(url, allowed=allowed, resolver=leads_to("10.1.2.3")).port == 8080
    with pytest.raises(AddressRefused, match="not encrypted"):
        check_outgoing(url, allowed=allowed, resolver=leads_to("10.1.2.3", "8.8.8.8"))
    with pytest.raises(AddressRefused, match=r"10\.2\.0\.1"):
        check_outgoing(url, allowed=allowed, resolver=leads_to("10.2.0.1"))


def test_a_refusal_tells_no_more_than_the_host():
    for url in ("https://user:pw@hooks.example.com/token", "http://hooks.example.com/token", "ftp://x/token"):
        with pytest.raises(AddressRefused) as refused:
            check_outgoing(url, resolver=leads_to("8.8.8.8"))
        assert "token" not in str(refused.value)
        assert "pw" not in str(refused.value)
