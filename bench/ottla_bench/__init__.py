"""Benchmarks of Ottla beside Apache Kafka on one machine."""
