"""Strict readers of environment variables: a wrong value stops the start and says its name and what is allowed."""

import contextlib
import ipaddress
import os
import zoneinfo
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """Return the variable, or ``default`` when it is unset or blank."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: bool) -> bool:
    """Return a boolean variable."""
    value = text(name).lower()
    if not value:
        return default
    if value in _TRUE | _FALSE:
        return value in _TRUE
    raise _wrong(name, value, "1, true, yes, on, 0, false, no or off")


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``."""
    value = text(name, str(default))
    if value.isascii() and value.isdigit() and low <= int(value[:12]) <= high:
        return int(value)
    raise _wrong(name, value, f"a whole number from {low} to {high}")


def names(name: str) -> list[str]:
    """Return a list that is written with commas."""
    return [item.strip() for item in text(name).split(",") if item.strip()]


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return a comma list of addresses and networks such as 10.1.0.0/16."""
    found = []
    for item in names(name):
        try:
            found.append(ipaddress.ip_network(item))
        except ValueError as error:
            raise _wrong(name, item, f"addresses and networks such as 10.1.0.0/16 ({error})") from None
    return found


def origins(name: str) -> list[str]:
    """Return a comma list of origins such as https://calls.example.com."""
    for item in names(name):
        if urlsplit(item).scheme not in {"http", "https"} or not urlsplit(item).netloc:
            raise _wrong(name, item, "origins with their scheme, such as https://calls.example.com")
    return names(name)


def time_zone(name: str, default: str) -> str:
    """Return an IANA time zone."""
    value = text(name, default)
    if value not in zoneinfo.available_timezones():
        raise _wrong(name, value, "an IANA time zone such as Asia/Kolkata")
    return value


def directory(name: str, default: Path) -> Path:
    """Return a directory, made if there is none."""
    path = Path(text(name, str(default))).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _wrong(name, str(path), f"a directory that can be made and written ({error.strerror})") from error
    return path


def secret_key(name: str, *, debug: bool, directory: Path) -> str:
    """Return the key that signs sessions and webhook tokens.

    Where none is set, one is made once and kept in ``directory``, readable by its owner only, so that the embedded
    set-up works and keeps its webhook URLs.
    """
    value = text(name)
    if value:
        if len(value) < 50 and not debug:
            raise ImproperlyConfigured(f"{name} is too short: at least 50 random characters are needed.")
        return value
    file = directory / "secret_key"
    if not file.exists():
        from django.core.management.utils import get_random_secret_key

        draft = file.with_name(f"secret_key.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(get_random_secret_key() + get_random_secret_key())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # of two processes that start together, one wins and both read its key
        draft.unlink()
    return file.read_text()


def database(name: str, default: str) -> dict[str, object]:
    """Return Django's settings for a database URL: sqlite:/// or postgres://."""
    value = text(name, default)
    scheme = value.partition(":")[0]
    if scheme not in {"sqlite", "postgres", "postgresql"}:
        raise _wrong(name, f"{scheme}:…", "a URL that starts with sqlite:///, postgres:// or postgresql://")
    try:
        return environ.Env.db_url_config(value)
    except (ValueError, environ.ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} cannot be read as a database URL: {type(error).__name__}.") from None


def email(name: str, default: str) -> dict[str, object]:
    """Return Django's EMAIL_* settings for a URL such as smtp+tls://user:password@mail.example.com:587."""
    try:
        return environ.Env.email_url_config(text(name, default))
    except (KeyError, ValueError, environ.ImproperlyConfigured):
        raise ImproperlyConfigured(
            f"{name} cannot be read; allowed: smtp://, smtp+tls:// or smtp+ssl:// with user:password@host:port, "
            "or consolemail:// to print mails."
        ) from None


def redis_url(name: str) -> str:
    """Return a Redis URL, or ``""`` when there is none."""
    value = text(name)
    if value and urlsplit(value).scheme not in {"redis", "rediss", "unix"}:
        raise _wrong(name, value.partition(":")[0] + ":…", "a URL that starts with redis://, rediss:// or unix://")
    return value


def _wrong(name: str, value: str, allowed: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} is {value!r}; allowed: {allowed}.")
