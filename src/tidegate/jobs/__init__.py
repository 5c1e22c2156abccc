"""The clock in: work the gateway gives itself."""
