"""The embedded cloud: what lets all of Baton run with no account, no Docker and no cluster."""
