"""From the requested name to endpoints and the upstream repository; access rules."""
