"""Warm worker groups on Ray Train, and the messages between them and their trials."""
