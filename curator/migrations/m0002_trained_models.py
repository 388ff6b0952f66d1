"""What a trained model is, and the exact rows that it was trained on."""

from __future__ import annotations

NAME = "trained_models"

SQL = """
ALTER TABLE models ADD COLUMN kind VARCHAR;
ALTER TABLE models ADD COLUMN dataset_hash VARCHAR;
"""
