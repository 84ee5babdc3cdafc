"""Reads a message of OTLP with OpenTelemetry's own classes for Python, and prints the spans that are in it."""

import json
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

request = ExportTraceServiceRequest()
with open(sys.argv[1], "rb") as file:
    request.ParseFromString(file.read())
resource = request.resource_spans[0]
service = {one.key: one.value.string_value for one in resource.resource.attributes}
spans = [
    {"name": span.name, "trace": span.trace_id.hex(), "parent": span.parent_span_id.hex()}
    for scope in resource.scope_spans
    for span in scope.spans
]
print(json.dumps({"service": service["service.name"], "spans": spans}))
