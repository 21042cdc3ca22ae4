"""The command line: verbs on top of the node, the only room that reads the environment."""
