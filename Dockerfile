# docker build -t pintalk .
# docker build -t pintalk --build-arg SOURCE=prebuilt .      uses target/release/pintalk, built on a system like the builder
#
# The image contains the program, the libraries that it is linked to, and the public certificate authorities: no shell and no
# packages. It has no HEALTHCHECK, which would need an HTTP client in the image: probe /health/ready from outside.

# Image of the build: Rust, a C compiler and make, on Debian or another system with ldd.
ARG BUILDER=rust:1.95-bookworm
# Base image: empty, or the builder's distribution (debian:bookworm-slim). The latter contains the libraries: set LIBRARIES=none.
ARG RUNTIME=scratch
ARG LIBRARIES=copied
# Source of the program: `compiled` in this build, or `prebuilt`.
ARG SOURCE=compiled

FROM ${BUILDER} AS compiled
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /source
# Builds the dependencies with empty crates in a separate layer, because they take minutes and change rarely.
COPY Cargo.toml Cargo.lock ./
COPY migration/Cargo.toml migration/Cargo.toml
COPY tests/load/Cargo.toml tests/load/Cargo.toml
COPY src/cli/build.rs src/cli/build.rs
RUN mkdir -p migration/src tests/load/src \
    && printf '//! Empty.\nfn main() {}\n' | tee src/main.rs >tests/load/src/main.rs \
    && echo '//! Empty.' | tee src/lib.rs >migration/src/lib.rs \
    && cargo build --release --locked --bin pintalk \
    && rm -r src migration/src
COPY migration migration
COPY src src
# Revision that `pintalk_build_info` reports.
ARG REVISION=unknown
# Cargo compares times: the copied files must be newer than the build of the empty crates.
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
# A numeric id, so that Kubernetes can verify that the user is not root.
USER 10001:10001
WORKDIR /var/lib/pintalk
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/pintalk"]
CMD ["serve"]
