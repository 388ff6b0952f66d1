"""The first schema: everything that DESIGN.md lists.

No table has an index. Keys are kept unique by joins at writing time: an index would have to be
rewritten on every flush, which then costs more the more rows there are (measured at 500,000
completions: 150 CPU ms per flush with one, 65 without).
"""

from __future__ import annotations

NAME = "initial"

SQL = """
CREATE TABLE runs (
    id VARCHAR NOT NULL, command VARCHAR NOT NULL, config VARCHAR NOT NULL, status VARCHAR NOT NULL,
    error VARCHAR, pid INTEGER, started_at TIMESTAMP NOT NULL, finished_at TIMESTAMP
);
CREATE TABLE tasks (id VARCHAR NOT NULL, spec VARCHAR NOT NULL, saved_at TIMESTAMP NOT NULL);

-- ordinal: the order of ingest, with gaps. content: hash of text and meta. size: bytes of the text.
CREATE TABLE documents (
    ordinal BIGINT NOT NULL, id VARCHAR NOT NULL, text VARCHAR NOT NULL, meta VARCHAR NOT NULL,
    content UUID NOT NULL, size BIGINT NOT NULL, source VARCHAR NOT NULL, run_id VARCHAR NOT NULL
);
CREATE TABLE rejects (
    source VARCHAR NOT NULL, "row" BIGINT NOT NULL, reason VARCHAR NOT NULL, excerpt VARCHAR NOT NULL,
    document_id VARCHAR, run_id VARCHAR NOT NULL
);
CREATE TABLE verdicts (
    settings VARCHAR NOT NULL, document_id VARCHAR NOT NULL, stage VARCHAR NOT NULL, keep BOOLEAN NOT NULL,
    reason VARCHAR NOT NULL, detail VARCHAR NOT NULL, run_id VARCHAR NOT NULL
);

-- key: hash of what was sent and who answered. logprobs, label_mass, readout: one entry per question,
-- NULL where it was refused. samples, finish_reasons, sample_logprobs: one entry per sample.
CREATE TABLE completions (
    key UUID NOT NULL, engine VARCHAR NOT NULL, identity VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    logprobs DOUBLE[][], label_mass DOUBLE[], readout VARCHAR[],
    samples VARCHAR[], finish_reasons VARCHAR[], sample_logprobs DOUBLE[],
    error VARCHAR, input_tokens BIGINT, output_tokens BIGINT, cached_tokens BIGINT, calls BIGINT,
    cost DOUBLE, latency DOUBLE, run_id VARCHAR NOT NULL
);
CREATE TABLE annotations (
    document_id VARCHAR NOT NULL, task_id VARCHAR NOT NULL, view INTEGER NOT NULL, round INTEGER NOT NULL,
    key UUID NOT NULL, error VARCHAR, truncated BOOLEAN NOT NULL, run_id VARCHAR NOT NULL
);
-- Names of journal segments that are in the tables but whose files may still be there.
CREATE TABLE loaded_segments (name VARCHAR NOT NULL);

CREATE TABLE labels (
    task_id VARCHAR NOT NULL, document_id VARCHAR NOT NULL, field VARCHAR NOT NULL, value VARCHAR,
    confidence DOUBLE, basis VARCHAR, probabilities DOUBLE[], effective_votes DOUBLE, flags VARCHAR[],
    run_id VARCHAR NOT NULL
);
-- content: the document's when it was audited; an audit of another text says nothing about this one.
CREATE TABLE audits (
    task_id VARCHAR NOT NULL, document_id VARCHAR NOT NULL, field VARCHAR NOT NULL, value VARCHAR NOT NULL,
    auditor VARCHAR NOT NULL, content UUID, audited_at TIMESTAMP NOT NULL
);
CREATE TABLE datasets (
    version INTEGER NOT NULL, task_id VARCHAR NOT NULL, hash VARCHAR NOT NULL, "rows" BIGINT NOT NULL,
    policy VARCHAR NOT NULL, report VARCHAR NOT NULL, run_id VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL
);
CREATE TABLE dataset_rows (
    version INTEGER NOT NULL, position BIGINT NOT NULL, document_id VARCHAR NOT NULL, text VARCHAR NOT NULL,
    meta VARCHAR NOT NULL, content UUID NOT NULL, output VARCHAR NOT NULL, confidence DOUBLE, weight DOUBLE,
    fields VARCHAR
);

CREATE TABLE models (
    name VARCHAR NOT NULL, identity VARCHAR NOT NULL, dataset_version INTEGER, path VARCHAR, sha256 VARCHAR,
    report VARCHAR, run_id VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL
);
CREATE TABLE policies (
    name VARCHAR NOT NULL, task_id VARCHAR, artifact VARCHAR NOT NULL, checksum VARCHAR NOT NULL,
    run_id VARCHAR, created_at TIMESTAMP NOT NULL
);
CREATE TABLE traffic (
    request_id VARCHAR NOT NULL, policy VARCHAR, tier VARCHAR NOT NULL, request VARCHAR NOT NULL,
    answer VARCHAR, signal DOUBLE, accepted BOOLEAN, input_tokens BIGINT, output_tokens BIGINT,
    cost DOUBLE, latency DOUBLE, received_at TIMESTAMP NOT NULL
);
"""
