"""Fixtures of the tests of reliability, which `make test-reliability` runs."""
