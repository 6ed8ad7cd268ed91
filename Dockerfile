# Relay and gateway, from one wheel. Build one of them with --target:
#
#   docker build --target relay -t ayb-realtime-relay .
#   docker build --target gateway -t ayb-realtime-gateway .

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /app
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The pinned dependencies first: they change less often than the code.
COPY requirements/runtime.txt requirements/runtime.txt
RUN /app/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY relay relay
COPY gateway gateway
RUN /app/bin/pip install --no-deps .

FROM python:3.13-slim AS base
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
RUN groupadd --gid 10001 ayb \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin ayb
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
STOPSIGNAL SIGTERM

FROM base AS relay
EXPOSE 8091
ENTRYPOINT ["ayb-relay"]
CMD ["run"]

FROM base AS gateway
# Metrics and the OpenAPI document are not on the public port.
ENV AYB_MANAGEMENT_PORT=8092
EXPOSE 8090 8092
ENTRYPOINT ["ayb-gateway"]
