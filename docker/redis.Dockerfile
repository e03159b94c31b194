# Debian's Redis as a store that keeps what it answered: every write is synced before the
# answer, and nothing is ever evicted.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends redis-server redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o redis -g redis /data
USER redis
VOLUME /data
EXPOSE 6379
HEALTHCHECK --interval=2s --timeout=2s --start-period=30s --retries=5 CMD redis-cli ping
ENTRYPOINT ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data", \
    "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
