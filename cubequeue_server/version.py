"""The version of cubequeue itself; not the CubeStore version that it announces."""

__version__ = "0.1.0"
