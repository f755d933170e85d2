# session-broker and brokerctl, built from this checkout:
#
#   docker build -t session-broker .
#   docker run -p 127.0.0.1:7400:7400 -p 127.0.0.1:7401:7401 -v sessions:/var/lib/session-broker session-broker
#
# docker-compose.yml runs it with Prometheus and Grafana. The broker knows no authentication: publish its ports
# on loopback or a trusted network only.
FROM debian:bookworm AS build
WORKDIR /src
# Before the sources, so that only a change of the list installs again.
COPY cmake/packages cmake/packages
RUN cmake/packages install && rm -rf /var/lib/apt/lists/*
COPY CMakeLists.txt ./
COPY cmake/BrokerProto.cmake cmake/BrokerTargets.cmake cmake/configure cmake/
COPY proto proto
COPY server server
COPY client client
# Like cmake/build, without configuring the tests, so that they need not be here.
RUN cmake/configure release -DCMAKE_BUILD_TYPE=Release -DBROKER_BUILD_TESTS=OFF -DBROKER_BUILD_BENCH=OFF \
    && cmake --build build/release --parallel "$(nproc)" --target session-broker brokerctl

FROM debian:bookworm-slim
# The libraries that the two binaries name; those that these need come along. A test compares.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libabsl20220623 \
        libcivetweb1 \
        libgrpc++1.51 \
        libgrpc29 \
        libprometheus-cpp-pull1.0 \
        libprotobuf32 \
        libspdlog1.10 \
        libsqlite3-0 \
        libssl3 \
    && rm -rf /var/lib/apt/lists/*
# A fixed number, so that a volume keeps its owner over rebuilds.
RUN groupadd --gid 7400 session-broker \
    && useradd --uid 7400 --gid 7400 --no-create-home --home-dir /var/lib/session-broker --shell /usr/sbin/nologin \
        session-broker \
    && install -d -m 0700 -o 7400 -g 7400 /var/lib/session-broker
COPY LICENSE /usr/share/doc/session-broker/copyright
COPY cmake/deploy/session-broker.json /etc/session-broker.json
COPY --from=build /src/build/release/bin/session-broker /src/build/release/bin/brokerctl /usr/bin/
USER 7400:7400
WORKDIR /var/lib/session-broker
VOLUME /var/lib/session-broker
# gRPC, and what Prometheus scrapes.
EXPOSE 7400 7401
# Whether it answers at all: this service stays SERVING while the broker is drained, where a restart would end the
# drain and cost its holders. Whether the store works is another question: `brokerctl health store`; a restart would
# not mend a disk, and without it holders keep their pins.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD \
    ["brokerctl", "--timeout", "2s", "health", "sessionbroker.v1.AdminService"]
# Answers what waits, writes what the next start goes on from, and exits with 0 within its grace.
STOPSIGNAL SIGTERM
ENTRYPOINT ["session-broker"]
CMD ["--listen", "0.0.0.0:7400", "--metrics-listen", "0.0.0.0:7401", "--config", "/etc/session-broker.json", \
     "--data-dir", "/var/lib/session-broker", "--log-format", "json"]
