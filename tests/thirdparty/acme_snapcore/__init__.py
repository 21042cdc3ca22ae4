"""A stranger's distribution as pip would have installed it: a backend and two wrappers."""
