"""Alerts: what is watched (``kinds``), the decisions (``engine``), and telling people (``notices``, ``channels``)."""
