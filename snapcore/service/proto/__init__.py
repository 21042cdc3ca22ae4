"""Messages of the services we speak: `.proto` files of ours, and what is generated from them.

`make stubs` generates, by grpcio-tools 1.74.0: what a generator writes runs under its own version
of protobuf and those after it, so that a new generator would lock out older installations. A test
compares the result with the `.proto` files, and with containerd's own.
"""
