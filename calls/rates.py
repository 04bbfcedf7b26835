"""How often something may be done in a minute, counted over all processes in Redis, without Redis in this process.

What was done is counted by whole seconds, of which the last ``WINDOW_SECONDS`` are looked back at; so no more than the
limit is let through at once, and the room that is used up comes back second by second, not all at the turn of a minute.
"""

import logging
import threading
import time
from functools import cache
from typing import NamedTuple

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

WINDOW_SECONDS = 60
TIMEOUT_SECONDS = 0.5
"""How long a request waits for Redis before it goes on without."""
LEFT_ALONE_SECONDS = 5
"""After Redis did not answer, for how long it is not asked again."""
MOST_NAMES = 10_000
"""Names counted in this process; beyond, those that nobody has asked for within the window are forgotten."""

# Redis keeps time for all processes. Second by second: at most as many fields as the window has seconds.
_SCRIPT = """
local now, limit, amount = tonumber(redis.call('TIME')[1]), tonumber(ARGV[1]), tonumber(ARGV[2])
local window = tonumber(ARGV[3])
local taken, oldest = 0, now
local slots = redis.call('HGETALL', KEYS[1])
for i = 1, #slots, 2 do
  local second = tonumber(slots[i])
  if second <= now - window then
    redis.call('HDEL', KEYS[1], slots[i])
  else
    taken = taken + tonumber(slots[i + 1])
    oldest = math.min(oldest, second)
  end
end
local passed = taken < limit
if passed and amount > 0 then
  redis.call('HINCRBY', KEYS[1], now, amount)
  redis.call('EXPIRE', KEYS[1], window)
  taken = taken + amount
end
return {passed and 1 or 0, math.max(limit - taken, 0), oldest + window - now}
"""

logger = logging.getLogger(__name__)


class Quota(NamedTuple):
    """What is left of a limit after one was taken, or looked for."""

    limit: int
    is_open: bool
    """Whether there was room for one."""
    remaining: int
    seconds: int
    """Until there is more room."""


def take(name: str, limit: int) -> Quota:
    """Count one of what ``name`` does, unless ``limit`` were done within the window already."""
    return _counted(name, limit, 1)


def look(name: str, limit: int) -> Quota:
    """Return whether there is room for one more of what ``name`` does, without counting it."""
    return _counted(name, limit, 0)


class Counts:
    """Counts of this process."""

    def __init__(self) -> None:
        self._slots: dict[str, dict[int, int]] = {}
        self._lock = threading.Lock()

    def counted(self, name: str, limit: int, amount: int) -> Quota:
        """Do what the script does in Redis."""
        now = int(time.time())
        with self._lock:
            if len(self._slots) > MOST_NAMES:
                self._slots = {key: found for key, found in self._slots.items() if max(found) > now - WINDOW_SECONDS}
            kept = {second: n for second, n in self._slots.get(name, {}).items() if second > now - WINDOW_SECONDS}
            taken = sum(kept.values())
            is_open = taken < limit
            if is_open and amount:
                kept[now] = kept.get(now, 0) + amount
                taken += amount
                self._slots[name] = kept
        return Quota(limit, is_open, max(limit - taken, 0), min(kept, default=now) + WINDOW_SECONDS - now)

    @property
    def names(self) -> int:
        """How many names are remembered."""
        return len(self._slots)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._slots.clear()


class SharedCounts:
    """Counts in Redis; while it is away each process counts by itself, and no request waits for it long."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            # Once more on a new connection, if the one at hand was closed; what timed out may have been counted.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._asked_again_at = 0.0
        self._is_away = False

    def counted(self, name: str, limit: int, amount: int) -> Quota:
        """Count in Redis, or here while it is away."""
        if time.monotonic() < self._asked_again_at:
            return here.counted(name, limit, amount)
        try:
            passed, remaining, seconds = self._script([f"ringledger:rate:{name}"], [limit, amount, WINDOW_SECONDS])
        except redis.RedisError as error:
            self._asked_again_at = time.monotonic() + LEFT_ALONE_SECONDS
            if not self._is_away:
                logger.warning("Redis is away: each process limits the API by its own counts (%s).", error)
            self._is_away = True
            return here.counted(name, limit, amount)
        if self._is_away:
            logger.warning("Redis is back: the API's limits are counted over all processes again.")
            self._is_away = False
        return Quota(limit, bool(passed), remaining, seconds)


here = Counts()


def _counted(name: str, limit: int, amount: int) -> Quota:
    counts = _shared(settings.REDIS_URL) if settings.REDIS_URL else here
    return counts.counted(name, limit, amount)


@cache
def _shared(url: str) -> SharedCounts:
    return SharedCounts(url)
