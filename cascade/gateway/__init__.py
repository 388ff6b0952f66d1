"""`goldless serve`: a cascade as a server, and what keeps it answering."""
