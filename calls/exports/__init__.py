"""Rows as files: CSV, XLSX and NDJSON of whatever a list shows."""
