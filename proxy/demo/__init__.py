"""The main job, shown on an embedded strict registry."""
