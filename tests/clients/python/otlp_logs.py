"""Reads a message of OTLP with OpenTelemetry's own classes for Python, and prints what is in it."""

import json
import sys

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

request = ExportLogsServiceRequest()
with open(sys.argv[1], "rb") as file:
    request.ParseFromString(file.read())
resource = request.resource_logs[0]
service = {one.key: one.value.string_value for one in resource.resource.attributes}
records = [
    {
        "event": record.event_name,
        "severity": record.severity_text,
        "body": json.loads(record.body.string_value)["schema"],
    }
    for scope in resource.scope_logs
    for record in scope.log_records
]
print(json.dumps({"service": service["service.name"], "records": records}))
