"""Training: the only user of TRL and peft. Each module says what it trains."""
