# docs/image.md says what is in the image, what is left out and why.
# The bases are arguments: a mirror's, or local ones as `python -m hack.image build` makes them.
ARG BUILDER_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/python3-debian12:nonroot

# Runs on the building machine and takes the target's wheels by name, so that no platform needs an emulator.
FROM --platform=$BUILDPLATFORM ${BUILDER_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY hack/image/prune.py ./

# A mirror of PyPI: --secret id=pip.conf,src=FILE; its CA: --secret id=ca.crt,src=FILE and `cert = /run/secrets/ca.crt`.
FROM builder AS dependencies
COPY requirements-image.lock ./
ARG TARGETARCH
# Wheels for any glibc up to bookworm's 2.36.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    case "$TARGETARCH" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; \
      *) echo "TARGETARCH is '$TARGETARCH', not amd64 or arm64" >&2; exit 1 ;; esac \
 && python3 -m pip install --require-hashes --no-deps --requirement requirements-image.lock --target /site \
      --only-binary :all: --implementation cp --python-version 3.11 --platform "manylinux2014_$machine" \
      $(seq -f "--platform manylinux_2_%g_$machine" 17 36) \
 && python3 prune.py /site

FROM builder AS package
COPY hack/image/build.lock ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python3 -m pip install --require-hashes --requirement build.lock --target /backend
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN PYTHONPATH=/backend python3 -m pip install --no-build-isolation --no-index --no-deps --target /memop . \
 && python3 prune.py /memop

FROM ${RUNTIME_IMAGE}
# Where Debian's Python looks by itself, also when it is isolated (-I) from its environment and working directory.
COPY --from=dependencies /site /usr/local/lib/python3.11/dist-packages
COPY --from=package /memop /usr/local/lib/python3.11/dist-packages
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/bin/python3", "-I", "-m", "memop.cli"]
CMD ["run"]
ARG VERSION=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="memop" \
      org.opencontainers.image.description="A Kubernetes operator for memcached" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
