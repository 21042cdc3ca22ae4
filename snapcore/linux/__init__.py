"""Typed Linux calls: the only ctypes in the project, one function a call, errno as OSError."""

from snapcore.linux.files import RenameFlag as RenameFlag
from snapcore.linux.files import Resolve as Resolve
from snapcore.linux.files import ficlone as ficlone
from snapcore.linux.files import filesystem_type as filesystem_type
from snapcore.linux.files import openat2 as openat2
from snapcore.linux.files import renameat2 as renameat2
from snapcore.linux.files import syncfs as syncfs
from snapcore.linux.mounts import MountAttr as MountAttr
from snapcore.linux.mounts import MountFlag as MountFlag
from snapcore.linux.mounts import UnmountFlag as UnmountFlag
from snapcore.linux.mounts import fsconfig_create as fsconfig_create
from snapcore.linux.mounts import fsconfig_flag as fsconfig_flag
from snapcore.linux.mounts import fsconfig_string as fsconfig_string
from snapcore.linux.mounts import fsmount as fsmount
from snapcore.linux.mounts import fsopen as fsopen
from snapcore.linux.mounts import mount as mount
from snapcore.linux.mounts import umount as umount
from snapcore.linux.process import Cap as Cap
from snapcore.linux.process import Namespace as Namespace
from snapcore.linux.process import effective_capabilities as effective_capabilities
from snapcore.linux.process import keep_capabilities as keep_capabilities
from snapcore.linux.process import set_no_new_privileges as set_no_new_privileges
from snapcore.linux.process import set_not_dumpable as set_not_dumpable
from snapcore.linux.process import set_parent_death_signal as set_parent_death_signal
from snapcore.linux.process import unshare as unshare
