# The paylog binary on Debian bookworm, as a user without rights.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY schemas schemas
COPY web web
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/paylog /usr/local/bin/paylog

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
# The home is the data directory: a volume over it takes its owner.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/paylog --shell /usr/sbin/nologin paylog
COPY --from=build /usr/local/bin/paylog /usr/local/bin/paylog
USER paylog
# Inside a container the loopback reaches nobody; on any other address nothing starts without a key (README, Keys).
ENV PAYLOG_LISTEN=0.0.0.0:8080 PAYLOG_DATA_DIR=/var/lib/paylog
VOLUME /var/lib/paylog
EXPOSE 8080
# Ready means: the log is folded to its end. There is no `paylog healthcheck` yet, so curl asks, and the port is that of PAYLOG_LISTEN.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:8080/readyz"]
ENTRYPOINT ["paylog"]
CMD ["up"]
