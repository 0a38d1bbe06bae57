"""The journey of one call: pure code, no clock, no chance, no I/O."""
