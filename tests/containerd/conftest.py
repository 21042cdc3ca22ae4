"""Without gRPC, which its fake is made of, the test of content cannot even be imported."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("grpc") else ["test_containerd_content.py"]
