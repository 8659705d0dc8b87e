"""What operators watch a run by: a Prometheus endpoint, OpenTelemetry traces of its stages."""
