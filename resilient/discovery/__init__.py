"""Resolvers: where a service's endpoints come from."""
