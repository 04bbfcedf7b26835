"""The tables of the call log. One noun a module."""

from calls.models.account import Account
from calls.models.agent import Agent
from calls.models.alert import Alert, AlertComment
from calls.models.alert_rule import AlertRule
from calls.models.api_key import ApiKey
from calls.models.audit import AuditEntry
from calls.models.balance import BalanceReading
from calls.models.channel import Channel
from calls.models.conversation import Conversation, ConversationAlias, ConversationRedirect, Tag
from calls.models.event import Event
from calls.models.leg import Leg
from calls.models.notice import Notice
from calls.models.periodic_job import PeriodicJob
from calls.models.stored_record import StoredRecord

__all__ = [
    "Account",
    "Agent",
    "Alert",
    "AlertComment",
    "AlertRule",
    "ApiKey",
    "AuditEntry",
    "BalanceReading",
    "Channel",
    "Conversation",
    "ConversationAlias",
    "ConversationRedirect",
    "Event",
    "Leg",
    "Notice",
    "PeriodicJob",
    "StoredRecord",
    "Tag",
]
