"""What the tests of reliability share; `make test-reliability` runs them."""
