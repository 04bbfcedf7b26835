"""Telling programs of what happens, by signed webhooks.

What happened becomes messages in the transaction of its cause (``occurrences``) or, for conversations, in the one that
moves the subscription on in the feed of changes (``following``): each exactly once. ``sender`` sends them, at least
once and in the order of what they are about; ``control`` is what people and programs can do with a subscription.
"""
