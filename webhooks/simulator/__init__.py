"""Made-up traffic of the providers: what a call would make each of them send, when, and what should come of it.

Everything but ``play`` is pure: the same seed and start give the same bytes. All people and numbers are fictional.
"""
