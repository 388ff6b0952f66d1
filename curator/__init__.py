"""goldless: unlabeled text in, confidence-scored training sets out."""
