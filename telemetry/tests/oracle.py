#!/usr/bin/env python3
"""Prints the spans of an OTLP request as OpenTelemetry's own Python package (opentelemetry-proto) reads them."""
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

request = ExportTraceServiceRequest()
with open(sys.argv[1], "rb") as body:
    request.ParseFromString(body.read())
for of_process in request.resource_spans:
    resource = {pair.key: pair.value.string_value for pair in of_process.resource.attributes}
    for scope in of_process.scope_spans:
        for span in scope.spans:
            print(resource["service.name"], resource["service.version"], span.trace_id.hex(), span.span_id.hex(),
                  span.parent_span_id.hex() or "-", span.name, span.kind, span.start_time_unix_nano,
                  span.end_time_unix_nano, span.status.code)
