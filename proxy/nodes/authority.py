"""The authority of proxies with certificates, as a node gets it. Blocking calls."""

from pathlib import Path

from proxy.nodes.found import read


def read_authority(path: Path) -> str:
    """The text of a file of certificates; raises ValueError, for a key above all: it must not go to nodes."""
    try:
        text = read(path.resolve())  # Kubernetes mounts files as symbolic links
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if text is None or "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError(f"{path} is not a file of certificates in PEM")
    if "PRIVATE KEY" in text:
        raise ValueError(f"{path} holds a private key: nodes need certificates only")
    return text
