"""What a cascade served: one row per question of a request. The table of the first schema was never written to."""

from __future__ import annotations

NAME = "traffic"

SQL = """
DROP TABLE traffic;
-- document_id: the text that was asked about, NULL where traffic was recorded without content. audit: the probability
-- with which an accepted answer was drawn for an audit, NULL where it was not. cost, latency: of the whole request.
CREATE TABLE traffic (
    request_id VARCHAR NOT NULL, document_id VARCHAR, question VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
    policy VARCHAR NOT NULL, tier VARCHAR NOT NULL, value VARCHAR, confidence DOUBLE, basis VARCHAR NOT NULL,
    audit DOUBLE, disagreed BOOLEAN, cost DOUBLE, latency DOUBLE, received_at TIMESTAMP NOT NULL,
    run_id VARCHAR NOT NULL
);
"""
