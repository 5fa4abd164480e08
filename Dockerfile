# Respool in a container: `docker build -t respool .`. Without an argument it is an API; compose.yaml has the rest.
#
# Python is the oldest that Respool runs on, which is the one that the tests have. All that is installed is pinned by
# its hash, also what builds the wheel.

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/respool && python -m venv /opt/build
WORKDIR /src
COPY requirements/image.txt requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/respool/bin/python install --require-hashes --requirement requirements/image.txt \
    && /opt/build/bin/pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY projections projections
COPY migrations migrations
COPY api api
COPY consumers consumers
COPY cli cli
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /dist . \
    && pip --python /opt/respool/bin/python install --no-deps --no-index /dist/*.whl

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="Respool" \
      org.opencontainers.image.description="Durable job execution for self-hosted LLM inference" \
      org.opencontainers.image.licenses="MIT"
# Both folders are volumes in a deployment, which take their owner from here.
RUN groupadd --gid 10001 respool \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/respool --no-create-home --shell /usr/sbin/nologin respool \
    && install --directory --owner respool --group respool --mode 0750 /var/lib/respool /backup
COPY --from=build /opt/respool /opt/respool
COPY --chmod=0755 deploy/image/answers /usr/local/bin/answers
ENV PATH=/opt/respool/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    API_HOST=0.0.0.0 \
    WORKER_HOST=0.0.0.0 \
    RESPOOL_DATA_DIR=/var/lib/respool \
    BACKUP_DIR=/backup \
    LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/respool
EXPOSE 8080 5345
HEALTHCHECK --interval=5s --timeout=5s --retries=6 --start-period=60s \
    CMD ["answers", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["respool"]
CMD ["api"]
