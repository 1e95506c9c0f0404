"""Warm worker groups on Ray Train: mailbox, heartbeats, preemption, lost workers, re-scoring."""
