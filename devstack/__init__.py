"""The whole stack with one command: embedded servers, demo tables and users, relay and gateway."""
