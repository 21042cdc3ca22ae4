"""The process that fetches and serves lazy layers, one for each state root."""
