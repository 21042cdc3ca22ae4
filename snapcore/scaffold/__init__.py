"""A new plugin to begin with: a whole distribution whose tests pass."""

from snapcore.scaffold.write import Plugin as Plugin
from snapcore.scaffold.write import new_plugin as new_plugin
