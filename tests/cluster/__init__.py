"""A real Kubernetes for the tests: control plane, two nodes, kubelet, containerd and runc on one Linux machine.

See README.md beside this file for what it is and how to use it by hand.
"""
