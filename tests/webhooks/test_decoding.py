"""Bytes to payloads: what is read, what is refused, and that nothing but an UndecodableBody ever comes out."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.decoding import decode
from webhooks.errors import DeliveryError, UndecodableBody

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xx"


def read(body: bytes = b"", query: bytes = b"", content_type: str = "application/json") -> list:
    return decode(body=body, query=query, content_type=content_type)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", FORM, "", "klingon"])
def test_json_is_read_whatever_the_content_type_says(content_type):
    assert read(b' {"a": 1}', content_type=content_type) == [{"a": 1}]


@pytest.mark.parametrize("content_type", ["application/json", FORM, ""])
def test_a_form_is_read_whatever_the_content_type_says(content_type):
    assert read(b"a=1&b=%2B91&c=", content_type=content_type) == [{"a": "1", "b": "+91", "c": ""}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding):
    assert read('{"name": "é"}'.encode(encoding)) == [{"name": "é"}]


def test_numbers_keep_their_digits():
    (payload,) = read(b'{"balance": 878.900000, "big": ' + b"9" * 31 + b', "small": 42}')
    assert payload == {"balance": Decimal("878.900000"), "big": "9" * 31, "small": 42}
    assert str(payload["balance"]) == "878.900000"


def test_a_list_holds_several_payloads_and_a_bad_element_is_an_error_among_them():
    first, second, third = read(b'[{"a": 1}, 7, {"b": 2}]')
    assert (first, third) == ({"a": 1}, {"b": 2})
    assert isinstance(second, DeliveryError)
    assert second.value == "7"


def test_the_query_counts_only_without_a_body_and_may_hold_a_second_question_mark():
    assert read(query=b"token=SECRET?SourceNumber=99&x=1") == [{"token": "SECRET", "SourceNumber": "99", "x": "1"}]
    assert read(b'{"a": 1}', query=b"b=2") == [{"a": 1}]


def test_a_multipart_form_gives_its_fields_and_no_files():
    body = (
        b'--xx\r\nContent-Disposition: form-data; name="Status"\r\n\r\nANSWER\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="f"; filename="x.wav"\r\n\r\nRIFF\r\n--xx--\r\n'
    )
    assert read(body, content_type=MULTIPART) == [{"Status": "ANSWER"}]


def test_a_multipart_form_is_read_by_its_own_boundary():
    body = (
        b'--x"x y\n'
        b'--x y\nContent-Type: text/plain; name="not this"\ncontent-disposition: form-data; name="a;b"\n\n1\n--x yes\n'
        b"--x y  \r\nContent-Disposition: form-data; name=c\r\n\r\n\r\n--x y--\r\nepilogue"
    )
    assert read(body, content_type='Multipart/Form-Data; charset=utf-8; boundary="x y"') == [
        {"a;b": "1\n--x yes", "c": ""}
    ]


def test_json_is_read_where_the_content_type_says_multipart():
    assert read(b'{"a": 1}', content_type=MULTIPART) == [{"a": 1}]


def test_a_form_is_read_in_its_encoding():
    assert read("name=é&b=%C3%A9".encode()) == [{"name": "é", "b": "é"}]
    assert read("name=é&b=1".encode("utf-16")) == [{"name": "é", "b": "1"}]
    assert read(query="name=é".encode()) == [{"name": "é"}]


def test_the_same_field_twice_is_taken_when_it_says_the_same():
    assert read(b'{"a": 1, "a": 1}') == [{"a": 1}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "neither a body nor a query"),
        (b"{ to: 440000000000, type: 'cdr' }", "JavaScript literal"),
        (b'{"a": 1, "a": 2}', "twice with different values"),
        (b'{"a": NaN}', "no such number"),
        (b'{"a": 1e400}', "exponent"),
        (b'{"a":' * 21 + b"1" + b"}" * 21, "brackets within brackets"),
        (b"[]", "empty list"),
        (b"[" + b"1," * 1000 + b"1]", "more than 1000 payloads"),
        (b"42", "expected a JSON object"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xff\x00", "no utf-8 text"),
        (b"<xml a='1'/>", "no JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_makes_no_sense_is_refused_with_the_reason(body, message):
    with pytest.raises(UndecodableBody, match=message):
        read(body)


def test_brackets_in_texts_are_no_nesting():
    assert read(b'{"a": "' + b"[" * 100 + b'"}') == [{"a": "[" * 100}]


def test_a_multipart_form_without_a_boundary_or_with_too_many_parts_is_refused():
    with pytest.raises(UndecodableBody, match="no boundary"):
        read(b"--xx\r\n", content_type="multipart/form-data")
    with pytest.raises(UndecodableBody, match="2000 fields"):
        read(b"--xx\r\n" * 3000, content_type=MULTIPART)


@given(
    body=st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789aeE.-=&\\un', max_size=80).map(str.encode),
    content_type=st.sampled_from(["application/json", FORM, MULTIPART, "multipart/form-data", ""]),
)
def test_nothing_but_payloads_or_a_refusal_comes_of_any_bytes(body, content_type):
    try:
        payloads = read(body, content_type=content_type)
    except UndecodableBody as error:
        payloads = [error]
    assert all(isinstance(payload, dict | DeliveryError) for payload in payloads)
