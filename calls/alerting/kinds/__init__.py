"""Every kind of alert by its word. ``webhooks`` adds those that watch deliveries when it starts."""

from calls.alerting.findings import Kind
from calls.alerting.kinds import money, traffic
from calls.choices import AlertKind

KINDS: dict[AlertKind, Kind] = money.KINDS | traffic.KINDS
