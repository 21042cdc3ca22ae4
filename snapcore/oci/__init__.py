"""OCI values: pure, parsed at the edge, without I/O."""

from snapcore.oci.chain import chain_id as chain_id
from snapcore.oci.chain import chain_ids as chain_ids
from snapcore.oci.descriptor import Descriptor as Descriptor
from snapcore.oci.descriptor import is_foreign_layer as is_foreign_layer
from snapcore.oci.descriptor import is_image_config as is_image_config
from snapcore.oci.descriptor import is_index as is_index
from snapcore.oci.descriptor import is_layer as is_layer
from snapcore.oci.descriptor import is_manifest as is_manifest
from snapcore.oci.descriptor import is_schema1 as is_schema1
from snapcore.oci.digest import Digest as Digest
from snapcore.oci.digest import new_hasher as new_hasher
from snapcore.oci.manifest import Config as Config
from snapcore.oci.manifest import Index as Index
from snapcore.oci.manifest import Manifest as Manifest
from snapcore.oci.manifest import parse_config as parse_config
from snapcore.oci.manifest import parse_document as parse_document
from snapcore.oci.platform import Platform as Platform
from snapcore.oci.reference import Reference as Reference
from snapcore.oci.whiteout import WhiteoutStyle as WhiteoutStyle
