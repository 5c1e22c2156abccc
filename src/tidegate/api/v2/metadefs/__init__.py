"""Image API v2: metadata definitions."""
