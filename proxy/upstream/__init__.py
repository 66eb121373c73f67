"""How we talk to registries: endpoints, authorization, fail-over, bodies that resume."""
