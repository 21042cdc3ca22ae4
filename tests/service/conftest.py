"""Without gRPC no test here can even be imported; `test_grpc.py` says so."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("grpc") else ["test_service_*.py"]
