"""Policies: frozen values, and the small pure machines that they are bound to."""
