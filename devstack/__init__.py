"""One command runs all of it: embedded servers, demo tables and users, relay and gateway."""
