"""Pipelines: recording -> transcript -> assessment -> alert. Plain functions over models/ and comms/."""
