"""Networks behind one protocol (`network`) and one table (`table`)."""
