"""Web addresses in what providers say: nobody gets to a recording by what a page shows."""

import pytest

from calls.weblinks import shortened


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"url": "https://rec.example.com/1.wav?key=1&sig=2", "b": 1}', '{"url": "rec.example.com/…", "b": 1}'),
        (r'{"url":"https:\/\/rec.example.com\/1.wav","b":1}', '{"url":"rec.example.com/…","b":1}'),
        ("a=1&url=https%3A%2F%2Frec.example.com%2F1.wav%3Fkey&b=2", "a=1&url=rec.example.com/…&b=2"),
        ("a=1&url=https%3a%2f%2frec.example.com%2f1.wav", "a=1&url=rec.example.com/…"),
        ("HTTP://user:password@rec.example.com:8443/1.wav and more", "rec.example.com/… and more"),
        ("<http://[2001:db8::1]/1.wav>", "<[2001:db8::1]/…>"),
        ("http://one.example.com/1 http://two.example.com?key=2", "one.example.com/… two.example.com/…"),
        ("1632318518000_2222222.mp3", "1632318518000_2222222.mp3"),
        ("https is a scheme, http:// none", "https is a scheme, http:// none"),
    ],
)
def test_of_a_web_address_only_the_host_is_shown(said, shown):
    assert shortened(said) == shown


@pytest.mark.parametrize("piece", ["http%3A%2F%2F%", "http://:", "https:"])
def test_a_long_text_of_beginnings_is_no_trouble(piece):
    """Were each beginning followed to the end, this would take minutes."""
    assert shortened(piece * 50_000 + " x").endswith(" x")
