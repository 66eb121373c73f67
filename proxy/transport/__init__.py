"""HTTP to the outside: sessions, redirects, limits, waiting."""
