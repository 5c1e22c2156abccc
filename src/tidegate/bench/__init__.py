"""Load and its measurement: a sink that costs nothing, a driver that costs little, the figures."""
