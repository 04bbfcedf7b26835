"""The reference for receiving: the handler of the provider's page, which prints the payload and stores nothing.

After doc.telecmi.com/piopiy, "Incoming Calls - Answered", tab Python; only the path differs.
"""

from flask import Flask, request

application = Flask(__name__)


@application.route("/webhooks/<provider>/<token>/", methods=["POST"])
def receive(provider: str, token: str) -> str:
    """Print the payload."""
    payload = request.get_json()
    print(payload)
    return "got it"
