"""The record of images, in SQL."""
