"""Measurements against bare clients and proxies; README.md says what each number means."""
