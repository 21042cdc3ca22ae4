"""Real peers and builders for the tests: registries, images, servers that misbehave."""
