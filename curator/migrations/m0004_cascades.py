"""Which tier of a cascade answered, and the draws of rows that people check for a certificate."""

from __future__ import annotations

NAME = "cascades"

SQL = """
-- served_by: the tier that answered, per question ('' where it was refused); one entry for generated texts. NULL where
-- the engine is no cascade.
ALTER TABLE completions ADD COLUMN served_by VARCHAR[];
-- One row per document of a sample. chance: with which the document was drawn, NULL where it could not be (it is for
-- learning). place: in [0, 1), uniform and in the order of the sheet, NULL where it was not drawn.
CREATE TABLE audit_draws (
    draw VARCHAR NOT NULL, task_id VARCHAR NOT NULL, document_id VARCHAR NOT NULL, chance DOUBLE, place DOUBLE,
    drawn_at TIMESTAMP NOT NULL
);
"""
