"""Spans, propagation and logs."""
