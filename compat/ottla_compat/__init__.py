"""Real Kafka clients against a broker: suites of scenarios, one driver per client."""
