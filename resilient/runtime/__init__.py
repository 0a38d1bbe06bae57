"""Threads, tasks, sleeps and sockets, but for those of discovery: lookups and file watching."""
