# The first stage has pip and makes a self-contained environment, the last has the environment and no tools.
# `deploy/build-image` gives the arguments of the labels; `--target sbom --output DIR` writes the list of packages alone.
FROM docker.io/library/python:3.13-slim AS build

WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv --without-pip /opt/cubequeue \
 && python -m pip --python /opt/cubequeue/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-compile --require-hashes --only-binary :all: -r requirements.lock
COPY cubequeue_server cubequeue_server
COPY protocol protocol
COPY storage storage
# Byte code goes by no time of a file: a layer rounds those to seconds, and would make half of it stale.
RUN python -m pip --python /opt/cubequeue/bin/python install --no-cache-dir --disable-pip-version-check \
      --no-compile --no-deps . \
 && /opt/cubequeue/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/cubequeue/lib

# The list of what the environment holds, as CycloneDX.
FROM build AS list-packages

COPY requirements-sbom.lock ./
RUN python -m venv /opt/cyclonedx \
 && /opt/cyclonedx/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements-sbom.lock \
 && /opt/cyclonedx/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
      --output-file /opt/sbom.json /opt/cubequeue/bin/python

FROM scratch AS sbom

COPY --from=list-packages /opt/sbom.json /

FROM docker.io/library/python:3.13-slim

# The base has pip, as a package, as a wheel and in ensurepip: nothing here is to be installed later.
RUN find / -xdev \( -path "*/site-packages/pip" -o -path "*/site-packages/pip-*" -o -path "*/dist-packages/pip" \
      -o -path "*/dist-packages/pip-*" -o -path "*/python3*/ensurepip" -o -path "*/share/python-wheels" \
      -o -path "*/bin/pip*" \) -prune -exec rm -rf {} +

# A numeric user, so that Kubernetes can see that it is not root; /data is its own.
RUN groupadd --gid 10001 cubequeue \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin cubequeue \
 && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /opt/cubequeue /opt/cubequeue
COPY --from=list-packages /opt/sbom.json /opt/cubequeue/sbom.json

# The root file system may be read-only: nothing is written outside /data.
ENV PATH=/opt/cubequeue/bin:$PATH \
    CUBESTORE_DATA_DIR=/data \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 3030 3031 3306
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["cubequeue", "healthcheck"]
ENTRYPOINT ["cubequeue"]
CMD ["serve"]

# Last, so that another commit does not make every layer anew.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="cubequeue" \
      org.opencontainers.image.description="A standalone queue and cache server for Cube" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
