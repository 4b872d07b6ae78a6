# docker build -t pintalk .
# docker build -t pintalk --build-arg SOURCE=prebuilt .
#
# With SOURCE=prebuilt, the image contains target/release/pintalk. This program must have been built on a system like the
# builder.
#
# The image contains the program, the libraries that it is linked to, and the certificates of public authorities. It has no
# shell and no packages. It has no HEALTHCHECK either, because this would need an HTTP client: probe /health/ready from outside.

# Image in which the program is built. It needs Rust, a C compiler and make, on Debian or another system that has ldd.
ARG BUILDER=rust:1.95-bookworm
# Base image, which is empty by default. With the builder's distribution as base (debian:bookworm-slim), set LIBRARIES=none,
# because that image contains the libraries.
ARG RUNTIME=scratch
ARG LIBRARIES=copied
# Origin of the program: `compiled` during this build, or `prebuilt`.
ARG SOURCE=compiled

FROM ${BUILDER} AS compiled
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /source
# The dependencies are built with empty crates in a separate layer, because they take minutes and rarely change.
COPY Cargo.toml Cargo.lock ./
COPY migration/Cargo.toml migration/Cargo.toml
COPY tests/kit/Cargo.toml tests/kit/Cargo.toml
COPY tests/load/Cargo.toml tests/load/Cargo.toml
COPY src/cli/build.rs src/cli/build.rs
RUN mkdir -p migration/src tests/kit/src tests/load/src \
    && printf '//! Empty.\nfn main() {}\n' | tee src/main.rs >tests/load/src/main.rs \
    && echo '//! Empty.' | tee src/lib.rs tests/kit/src/lib.rs >migration/src/lib.rs \
    && cargo build --release --locked --bin pintalk \
    && rm -r src migration/src
COPY migration migration
COPY src src
# Revision that the metric `pintalk_build_info` reports.
ARG REVISION=unknown
# Cargo compares modification times, so the sources must be newer than the build of the empty crates.
RUN find src migration -name '*.rs' -exec touch {} + \
    && PINTALK_REVISION=$REVISION cargo build --release --locked --bin pintalk \
    && cp target/release/pintalk /pintalk

FROM ${BUILDER} AS prebuilt
COPY target/release/pintalk /pintalk

FROM ${SOURCE} AS root
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG LIBRARIES
RUN mkdir -p /image/usr/local/bin /image/etc/ssl/certs /data \
    && cp /pintalk /image/usr/local/bin/pintalk \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && echo 'pintalk:x:10001:10001::/var/lib/pintalk:/sbin/nologin' >/image/etc/passwd \
    && echo 'pintalk:x:10001:' >/image/etc/group \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
    && if [ "$LIBRARIES" = copied ]; then \
        ldd /pintalk | sed -nE 's/.*[[:space:]](\/[^ ]+) \(0x.*/\1/p' | xargs -I{} cp --parents -L {} /image; \
    fi

FROM ${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="PinTalk" \
    org.opencontainers.image.description="Self-hosted live chat over plain WebSockets" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=root /image /
COPY --from=root --chown=10001:10001 --chmod=700 /data /var/lib/pintalk
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    PINTALK_LISTEN=0.0.0.0:8080 \
    PINTALK_DATA_DIR=/var/lib/pintalk
# The id is numeric, so that Kubernetes can verify that the user is not root.
USER 10001:10001
WORKDIR /var/lib/pintalk
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/pintalk"]
CMD ["serve"]
