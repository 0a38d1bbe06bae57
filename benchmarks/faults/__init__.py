"""Ten endpoints and what goes wrong with them, before four kinds of client."""
