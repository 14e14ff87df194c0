"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sccountsdiff")
except PackageNotFoundError:  # used from a source tree that was not installed
    __version__ = "0+unknown"
