"""Requests without a client library: cases in JSON, record batches by hand, raw bytes."""
