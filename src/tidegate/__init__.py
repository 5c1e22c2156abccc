"""An image upload gateway: the Image API in front of any S3-compatible store."""

__version__ = "0.1.0"
