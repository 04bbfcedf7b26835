"""Members of staff as the roles make them, and calls for them to see or not to see."""

from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from calls.choices import Direction, Disposition, Reason, State
from calls.models import Account, Agent, Conversation, Leg, StaffAccess, Team


def person(
    role: str, *, accounts: list[Account] = (), team: Team | None = None, agents: list[Agent] = (), name: str = ""
) -> User:
    """Make a member of staff with a role, as an administrator does."""
    user = User.objects.create_user(name or role, password="a long password", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    access = StaffAccess.objects.create(user=user, team=team)
    access.accounts.set(accounts)
    access.agents.set(agents)
    return User.objects.get(pk=user.pk)


def logged_in(user: User) -> Client:
    """Return a browser in which ``user`` is logged in."""
    client = Client()
    client.force_login(user)
    return client


def call_of(account: Account, agent: Agent | None = None, number: str = "+919000000001", **columns) -> Conversation:
    """Store an ended inbound call with one leg of the caller and, if an agent took it, one of the agent."""
    now = timezone.now()
    columns = {
        "direction": Direction.INBOUND,
        "state": State.ENDED,
        "disposition": Disposition.ANSWERED if agent else Disposition.MISSED,
        "reason": Reason.CUSTOMER_CDR,
        "customer_number": number,
        "did": "+918000000000",
        "started_at": now,
        "last_heard_at": now,
        "agent": agent,
    } | columns
    call = Conversation.objects.create(account=account, **columns)
    leg_of(call, "customer", number)
    if agent:
        leg_of(call, "agent", agent.phone or "+919000000090", agent)
    return call


def leg_of(call: Conversation, role: str, number: str, agent: Agent | None = None) -> Leg:
    """Add a leg to a call."""
    return Leg.objects.create(
        account=call.account,
        conversation=call,
        external_id=f"{call.pk}-{role}",
        label="a" if role == "customer" else "b",
        role=role,
        direction=call.direction,
        from_number=number,
        to_number=call.did,
        agent=agent,
        disposition=call.disposition,
        started_at=call.started_at,
    )
