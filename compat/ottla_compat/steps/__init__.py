"""The steps scenarios are made of."""
