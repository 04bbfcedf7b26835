"""The whole program under faults: real processes, a private PostgreSQL and Redis, and a client that remembers.

``make test`` runs the short form of each, ``make reliability`` the long one.
"""
