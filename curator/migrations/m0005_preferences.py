"""Versions of preference pairs, beside those of labelled rows and under the same numbers."""

from __future__ import annotations

NAME = "preferences"

SQL = """
ALTER TABLE datasets ADD COLUMN kind VARCHAR DEFAULT 'labels';
-- prompt: a list of messages, details: an object, both JSON text. A document may have several pairs.
CREATE TABLE preference_rows (
    version INTEGER NOT NULL, position BIGINT NOT NULL, document_id VARCHAR NOT NULL, text VARCHAR NOT NULL,
    meta VARCHAR NOT NULL, content UUID NOT NULL, prompt VARCHAR NOT NULL, chosen VARCHAR NOT NULL,
    rejected VARCHAR NOT NULL, confidence DOUBLE, details VARCHAR NOT NULL
);
"""
