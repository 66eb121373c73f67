"""The k3s setting that ends the fallback to the registry itself, and the releases that support it."""

SETTING = "disable-default-registry-endpoint"
RELEASES = (
    "v1.26.13 or a later 1.26, v1.27.10 or a later 1.27, v1.28.6 or a later 1.28, or v1.29.1 or any later release"
)
"""Those of k3s and RKE2: v1.27.5 is later than v1.26.13 and does not support it."""
