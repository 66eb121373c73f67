"""Rewrite rules with the semantics of Go's `regexp`, their inverse, and patterns of names and repositories."""
