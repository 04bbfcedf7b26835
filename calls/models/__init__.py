"""The tables of the call log. One noun a module."""

from calls.models.account import Account
from calls.models.agent import Agent
from calls.models.alert import Alert, AlertComment
from calls.models.alert_rule import AlertRule
from calls.models.api_key import ApiKey
from calls.models.audit import AuditEntry
from calls.models.balance import BalanceReading
from calls.models.change import Change
from calls.models.channel import Channel
from calls.models.contact import Contact, ContactNumber
from calls.models.conversation import Conversation, ConversationAlias, ConversationRedirect, Tag
from calls.models.event import Event
from calls.models.export import Export
from calls.models.idempotency import IdempotentRequest
from calls.models.leg import Leg
from calls.models.missed_caller import MissedCaller, WorklistStep
from calls.models.note import CallNote, StaffOutcome
from calls.models.notice import Notice
from calls.models.periodic_job import PeriodicJob
from calls.models.recording import Recording
from calls.models.rollup import Rollup, RollupProgress, StaleSlot
from calls.models.saved_view import ListChoice, SavedView
from calls.models.staff import StaffAccess, StaffSession, Team
from calls.models.stored_record import StoredRecord
from calls.models.subscription import Attempt, Message, Subscription

__all__ = [
    "Account",
    "Agent",
    "Alert",
    "AlertComment",
    "AlertRule",
    "ApiKey",
    "Attempt",
    "AuditEntry",
    "BalanceReading",
    "CallNote",
    "Change",
    "Channel",
    "Contact",
    "ContactNumber",
    "Conversation",
    "ConversationAlias",
    "ConversationRedirect",
    "Event",
    "Export",
    "IdempotentRequest",
    "Leg",
    "ListChoice",
    "Message",
    "MissedCaller",
    "Notice",
    "PeriodicJob",
    "Recording",
    "Rollup",
    "RollupProgress",
    "SavedView",
    "StaffAccess",
    "StaffOutcome",
    "StaffSession",
    "StaleSlot",
    "StoredRecord",
    "Subscription",
    "Tag",
    "Team",
    "WorklistStep",
]
