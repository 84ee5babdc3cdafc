"""mitmproxy's addon: one address for all names, one header put on, bodies streamed."""

import os

HOST, _, PORT = os.environ["BENCH_UPSTREAM"].rpartition(":")
AUTHORIZATION = "Bearer " + os.environ["BENCH_CREDENTIAL"]


def requestheaders(flow):
    name = flow.request.host_header
    # Changed here and not when it is dialled, else no connection is used twice.
    flow.request.host, flow.request.port = HOST, int(PORT)
    flow.request.host_header = name
    flow.request.headers["Authorization"] = AUTHORIZATION
    flow.request.stream = True


def server_connect(data):
    data.server.sni = "api.bench.test"


def responseheaders(flow):
    flow.response.stream = True
