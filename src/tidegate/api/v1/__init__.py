"""Image API v1."""
