"""The version of this program."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("scope-proxy")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0+unknown"

USER_AGENT = f"scope-proxy/{VERSION}"
