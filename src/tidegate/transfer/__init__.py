"""Bytes on the move; knows stores, not images."""
