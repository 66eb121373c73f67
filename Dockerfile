# syntax: plain; builds with buildah, podman or docker. `make image` runs buildah.
#
#   BASE        glibc, python3 >= 3.11 and CA certificates; scope-proxy uses nothing else of it at run time
#   BUILD_BASE  the same interpreter at the same path, and pip or apt-get; by default BASE itself
#
# The last stage only copies and runs no command, so BASE may be distroless.
ARG BASE=python:3.13-slim-bookworm
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build

# Debian has pip in a separate package; Python images contain it.
RUN python3 -m pip --version || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 python3-pip; }

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The tools that build the wheel are also pinned; they stay in this stage.
COPY requirements.lock ./
RUN python3 -m venv --without-pip /opt/scope-proxy \
 && python3 -m venv --without-pip /opt/build \
 && python3 -m pip --python /opt/scope-proxy/bin/python3 install --no-compile --only-binary :all: --require-hashes -r requirements.lock \
 && cp -a /opt/scope-proxy/lib /opt/build/ \
 && python3 -m pip --python /opt/scope-proxy/bin/python3 uninstall --yes editables hatchling packaging pathspec pluggy trove-classifiers

COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN python3 -m pip --python /opt/build/bin/python3 wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python3 -m pip --python /opt/scope-proxy/bin/python3 install --no-compile --no-deps /wheels/*.whl \
 && python3 -m pip --python /opt/scope-proxy/bin/python3 check \
 && find /opt/scope-proxy -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} + \
 && find /opt/scope-proxy/bin ! -name 'python*' ! -name scope-proxy -type f -delete \
 && /opt/scope-proxy/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/scope-proxy/lib
# Compiles byte code here, because the root may be read-only at run time; with hashes, because file times may change.

# Other files for the last stage: the default configuration, and a cache directory that the image's user owns.
COPY config/default.yaml /rootfs/etc/scope-proxy/config.yaml
RUN mkdir -p /rootfs/var/cache/scope-proxy && chown 65532:65532 /rootfs/var/cache/scope-proxy \
 && chmod 0644 /rootfs/etc/scope-proxy/config.yaml \
 && /opt/scope-proxy/bin/scope-proxy check --config /rootfs/etc/scope-proxy/config.yaml

FROM ${BASE}

ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=""
LABEL org.opencontainers.image.title="scope-proxy" \
      org.opencontainers.image.description="A pull-through registry proxy that requests exactly one scope from strict registries" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

COPY --from=build /opt/scope-proxy /opt/scope-proxy
COPY --from=build /rootfs/ /

# The root file system may be read-only. With several workers, /tmp must be writable.
ENV PATH=/opt/scope-proxy/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532
EXPOSE 5000 5007
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["scope-proxy", "healthcheck"]
ENTRYPOINT ["scope-proxy"]
CMD ["serve"]
