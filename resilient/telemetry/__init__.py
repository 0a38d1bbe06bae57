"""Spans, propagation, logs and status."""
