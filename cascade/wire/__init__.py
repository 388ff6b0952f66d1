"""JSON of the dialects that clients speak <-> our types. Pure functions: no I/O, no state but what is passed in."""
