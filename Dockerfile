# syntax=docker/dockerfile:1
# One image for both processes, to publish, sign and scan once:
#
#   docker build -t ayb-realtime .
#   docker run ayb-realtime gateway            # also: gateway doctor, explain, smoke, tail
#   docker run ayb-realtime relay run          # also: relay install, relay doctor
#
# BASE is any image with Python 3.11 or newer as `python3`, with its venv module.
ARG BASE=python:3.13-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /app
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The pinned dependencies first: they change less often than the code.
# With those of the extra `otel`: 5 MB, used if AYB_TRACES_RATIO is set.
COPY requirements/otel.txt requirements/otel.txt
RUN /app/bin/pip install --require-hashes --only-binary :all: -r requirements/otel.txt
# Beside the dependencies, so that the last stage needs no pip.
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY relay relay
COPY gateway gateway
COPY clients/python clients/python
RUN /app/bin/pip install --no-deps . ./clients/python && /app/bin/pip uninstall --yes pip setuptools

# hadolint ignore=DL3006
FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ayb-realtime" \
    org.opencontainers.image.description="Postgres changes streamed to browsers, each client seeing what Row-Level Security lets it see" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="https://github.com/ayb-realtime/ayb-realtime" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /app /app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# A number, so that Kubernetes can check that it is not root (runAsNonRoot). Nothing is written:
# the root file system may be read-only.
USER 10001:10001
STOPSIGNAL SIGTERM
# Metrics and the OpenAPI document of a gateway are not on its public port.
ENV AYB_MANAGEMENT_PORT=8092
EXPOSE 8090 8091 8092
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["/app/bin/python", "-m", "shared.healthcheck"]
# Python itself is process 1 and gets SIGTERM.
ENTRYPOINT ["/app/bin/python", "-m"]
CMD ["gateway"]
