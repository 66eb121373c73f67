"""Every tool that `make tools` builds: name, version, and how it is built.

Another version here is built beside the old one, which other checkouts may still use.
"""

from tests.tools.kinds import DebianBase, GoProgram, PythonPackage

HELM_3 = GoProgram("helm3", "v3.19.0", "helm.sh/helm/v3/cmd/helm")
HELM_4 = PythonPackage(
    "helm4", "0.2.2", "helm-python-sdk", "28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578"
)
"""Helm 4.2.3 as a library."""

SCHEMAS_1_21 = PythonPackage(
    *("schemas-1.21", "1.24.1", "kubernetes-validate"),
    sha256="705416be22f53a46799137d6a217a4cdb72f2205f9133241fa9bb0a7e84ac8f6",
    source=True,
)
"""Schemas of Kubernetes 1.21 to 1.24; only the package's data is used."""

SCHEMAS_1_25 = PythonPackage(
    *("schemas-1.25", "1.37.0", "kubernetes-validate"),
    sha256="85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
)
"""Schemas of Kubernetes 1.25 to 1.37."""

CONFORMANCE = GoProgram(
    "conformance",
    "v0.0.0-20260831232431-97274622c111",
    "github.com/opencontainers/distribution-spec/conformance",
)
"""The conformance suite of the OCI distribution specification; its repository tags the specification alone."""

CRANE = GoProgram("crane", "v0.20.6", "github.com/google/go-containerregistry/cmd/crane")

BASE = DebianBase("base", "trixie", ("python3", "ca-certificates"))
"""What the image test builds the image on: it has the Python of the base that is shipped, 3.13."""

MACHINE = DebianBase("machine", "bookworm", ("systemd", "systemd-sysv", "procps", "python3", "ca-certificates", "pipx"))
"""A Debian that systemd runs, for the systemd part of the install guide."""

TOOLS = (HELM_3, HELM_4, SCHEMAS_1_21, SCHEMAS_1_25, CONFORMANCE, CRANE, BASE, MACHINE)
