"""Configuration: typed values, and how they come out of a TOML file."""

from snapcore.config.keys import KEYS as KEYS
from snapcore.config.keys import SYSTEM_ROOT as SYSTEM_ROOT
from snapcore.config.keys import SYSTEM_STATE as SYSTEM_STATE
from snapcore.config.keys import Key as Key
from snapcore.config.keys import Value as Value
from snapcore.config.load import Loaded as Loaded
from snapcore.config.load import Setting as Setting
from snapcore.config.load import load as load
from snapcore.config.match import HostFacts as HostFacts
from snapcore.config.values import Discard as Discard
from snapcore.config.values import NodeConfig as NodeConfig
from snapcore.config.values import PrivateNetworks as PrivateNetworks
from snapcore.config.values import RegistryConfig as RegistryConfig
from snapcore.config.values import UnpackConfig as UnpackConfig
from snapcore.config.values import Unprivileged as Unprivileged
