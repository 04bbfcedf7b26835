import ipaddress
import zoneinfo

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from phonenumbers import SUPPORTED_REGIONS

from calls import business_hours
from calls.records import AccountFacts

validate_slug = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z",
    "Use 1 to 64 small letters, digits and inner dashes, such as delhi-support.",
)
validate_unit = RegexValidator(r"\A[A-Za-z]{1,12}\Z", "Use a currency code such as INR, or a word such as coins.")


def validate_zone(value: str) -> None:
    """Raise ``ValidationError`` unless ``value`` is an IANA time zone."""
    if value not in zoneinfo.available_timezones():
        raise ValidationError(f"“{value}” is not a time zone. Use an IANA name such as Asia/Kolkata.")


def validate_region(value: str) -> None:
    """Raise ``ValidationError`` unless ``value`` is a region whose phone numbers can be read."""
    if value not in SUPPORTED_REGIONS:
        raise ValidationError(f"“{value}” is not a phone region. Use two capital letters such as IN.")


def validate_networks(value: str) -> None:
    """Raise ``ValidationError`` unless each line is an address or a network."""
    for line in value.split():
        try:
            ipaddress.ip_network(line)
        except ValueError as error:
            raise ValidationError(f"“{line}” is not an address or network such as 203.0.113.0/24: {error}") from error


def validate_business_hours(value: str) -> None:
    """Raise ``ValidationError`` unless ``value`` can be read as business hours."""
    try:
        business_hours.parse(value)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class ApiBase(models.TextChoices):
    """The APIs that a provider runs side by side; what is said at one is unknown at the other."""

    GLOBAL = "global", "Global"
    INDIA = "india", "India"


class Account(models.Model):
    """One customer account at one provider: whose deliveries come in, and how they are to be read."""

    slug = models.CharField(max_length=64, unique=True, validators=[validate_slug], help_text="Its name in the API.")
    name = models.CharField(max_length=120, blank=True, help_text="Its name for staff; the slug when empty.")
    provider = models.CharField(max_length=32)
    app_id = models.CharField(
        "app id",
        max_length=64,
        blank=True,
        help_text="The provider's id of this account. When set, deliveries that name another are quarantined.",
    )
    unit = models.CharField(
        max_length=12,
        default="INR",
        validators=[validate_unit],
        help_text="What its money is counted in: a currency code, or coins. Units are never added to each other.",
    )
    time_zone = models.CharField(
        max_length=64,
        default="Asia/Kolkata",
        validators=[validate_zone],
        help_text="Zone in which the provider prints times without an offset.",
    )
    phone_region = models.CharField(
        max_length=2,
        default="IN",
        validators=[validate_region],
        help_text="Country in which national phone numbers are read.",
    )
    is_active = models.BooleanField("active", default=True, help_text="An inactive account's webhook URLs answer 404.")
    allowed_networks = models.TextField(
        blank=True,
        validators=[validate_networks],
        help_text="Addresses or networks that deliveries may come from, one a line. Empty: from anywhere.",
    )
    silence_minutes = models.PositiveIntegerField(
        default=240,
        validators=[MinValueValidator(5)],
        help_text="A live call of which nothing is heard for this long is closed as unknown.",
    )
    business_hours = models.TextField(
        blank=True,
        validators=[validate_business_hours],
        help_text="When somebody is there, in the account's zone, a line or semicolon apart: Mon-Fri 09:00-18:00; "
        "Sat 10:00-14:00. Empty: always.",
    )
    callback_minutes = models.PositiveIntegerField(
        "call back within",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(7 * 24 * 60)],
        help_text="Minutes of business hours in which a missed caller is to be called back. Empty: no promise.",
    )
    sealed_secret = models.TextField(
        blank=True, editable=False, help_text="The secret of the provider's own API, sealed: see calls.sealing."
    )
    api_base = models.CharField(
        "provider's API",
        max_length=6,
        choices=ApiBase,
        default=ApiBase.GLOBAL,
        help_text="Which of its APIs the account is at. An account in India may be at either: try the other one when "
        "the provider refuses app id and secret.",
    )
    pulled_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Up to when the provider's own list of calls has been read."
    )
    pull_error = models.TextField(
        blank=True, editable=False, help_text="Why the provider's list of calls could not be read at the last try."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name or self.slug

    @property
    def facts(self) -> AccountFacts:
        """What adapters and the projection may know of it."""
        return AccountFacts(time_zone=self.time_zone, phone_region=self.phone_region, app_id=self.app_id)
