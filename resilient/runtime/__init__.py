"""The only threads, tasks, sleeps and sockets of the package."""
